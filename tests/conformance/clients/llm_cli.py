"""The `llm` command, pointed here by its file of extra OpenAI models. It cannot script the engine: models do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import BROKEN, CALLING, COLD, FULL, SINGLE, WRITING, Target, check, cool, freed_within, holds, same

FUNCTION = 'def look(at: int) -> str:\n    "Look at a place."\n    return f"a tree at {at}"\n'


def llm(target: Target, *arguments: str, key: str | None = None, fails: bool = False) -> str:
    """What the command prints; with `fails`, what it prints on stderr while it exits with an error."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command(*arguments, key=key or target.api_key), env=environment(target, folder), capture_output=True,
            text=True, timeout=80, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if fails:
            holds(done.returncode != 0 and done.stderr.startswith("Error: "), done)
            return done.stderr
        holds(done.returncode == 0, done.stderr)
        return done.stdout


def command(*arguments: str, key: str) -> list[str]:
    program = str(Path(sys.executable).with_name("llm"))
    return [program, *arguments, *([] if arguments[0] in ("models", "logs") else ["--key", key])]


def environment(target: Target, folder: str) -> dict[str, str]:
    """The command's own, with a folder whose file of models points to the service."""
    labels = [target.model, COLD, FULL, SINGLE, BROKEN, CALLING, WRITING, "no/such-model"]
    models = [
        {
            "model_id": f"our-{label}", "model_name": label, "api_base": f"{target.url}/v1", "api_key_name": "ours",
            "supports_tools": True, "supports_schema": True,
        }
        for label in labels
    ]  # fmt: skip
    models.append({**models[0], "model_id": "our-completion", "completion": True})
    models.append({**models[0], "model_id": "our-responses", "responses": True})
    (Path(folder) / "extra-openai-models.yaml").write_text(json.dumps(models))  # JSON is YAML
    return {**os.environ, "LLM_USER_PATH": folder}


@check()
def a_question_is_answered_streamed(target: Target) -> None:
    holds(llm(target, "-m", f"our-{target.model}", "one two three").strip())


@check()
def a_question_is_answered_in_one_piece(target: Target) -> None:
    holds(llm(target, "-m", f"our-{target.model}", "--no-stream", "-s", "be brief", "one two three").strip())


@check("scripted")
def streamed_and_plain_say_the_same_words(target: Target) -> None:
    asked = ("-m", f"our-{target.model}", "one", "-o", "max_tokens", "3")
    same(llm(target, *asked).strip(), "t0 t1 t2")
    same(llm(target, *asked, "--no-stream").strip(), "t0 t1 t2")


@check("scripted")
def tokens_are_counted(target: Target) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked = ("-m", f"our-{target.model}", "one two three", "-u", "-o", "max_tokens", "3")
        for more in ((), ("--no-stream",)):
            done = subprocess.run(
                command(*asked, *more, key=target.api_key), env=environment(target, folder), capture_output=True,
                text=True, timeout=80, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
            holds("3 input" in done.stderr and "3 output" in done.stderr, done.stderr)


@check()
def a_completion_is_continued(target: Target) -> None:
    holds(llm(target, "-m", "our-completion", "one two").strip())


@check("scripted")
def a_tool_is_called_and_the_chain_ends(target: Target) -> None:
    for more in ((), ("--no-stream",)):
        told = llm(target, "-m", f"our-{CALLING}", "--functions", FUNCTION, "where?", *more)
        holds("seen" in told, told)


@check("scripted")
def a_schema_is_answered(target: Target) -> None:
    for more in ((), ("--no-stream",)):
        same(json.loads(llm(target, "-m", f"our-{WRITING}", "--schema", "at int", "where?", *more)), {"at": 3})


@check("keys")
def a_wrong_key_is_told(target: Target) -> None:
    holds("API key" in llm(target, "-m", f"our-{target.model}", "one", key="sk-nobody", fails=True))


@check()
def an_unknown_model_is_told(target: Target) -> None:
    holds("no/such-model" in llm(target, "-m", "our-no/such-model", "one", fails=True))


@check()
def a_wrong_value_is_told_with_its_field(target: Target) -> None:
    holds("max_tokens" in llm(target, "-m", f"our-{target.model}", "one", "-o", "max_tokens", "0", fails=True))


@check("small-bodies")
def a_body_that_is_too_large_is_told(target: Target) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("x" * 1_500_000)
        file.flush()
        holds("bytes" in llm(target, "-m", f"our-{target.model}", "-f", file.name, fails=True))


@check("limits")
def a_rate_limit_is_told(target: Target) -> None:
    """Its SDK retries by itself, after as long as it is told: longer than this check has. The third one waits."""
    began = time.perf_counter()
    asked = ("-m", f"our-{target.model}", "one", "-o", "max_tokens", "1")
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(4):
            try:
                done = subprocess.run(
                    command(*asked, key=target.limited_key), env=environment(target, folder), capture_output=True,
                    text=True, timeout=4, stdin=subprocess.DEVNULL, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return  # it waits until its limit allows more
            if done.returncode:
                holds("rate limit" in done.stderr.lower(), done.stderr)
                return
    raise AssertionError(f"no limit was met in {time.perf_counter() - began:.1f} s")


@check("scripted")
def a_stream_that_breaks_is_an_error(target: Target) -> None:
    llm(target, "-m", f"our-{BROKEN}", "one", fails=True)


@check("single")
def an_interrupted_command_frees_the_engine(target: Target) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked = command("-m", f"our-{SINGLE}", "one", "-o", "max_tokens", "100000", key=target.api_key)
        with subprocess.Popen(asked, env=environment(target, folder), stdout=subprocess.PIPE) as process:
            process.stdout.read(2)
            process.kill()
    once = ("-m", f"our-{SINGLE}", "one", "-o", "max_tokens", "1")
    freed_within(60.0, lambda: llm(target, *once).strip(), AssertionError)


@check("cold")
def a_cold_model_is_no_error(target: Target) -> None:
    for more in ((), ("--no-stream",)):
        cool(target)
        holds(llm(target, "-m", f"our-{COLD}", "one", *more).strip())


@check("responses")
def the_responses_api_answers(target: Target) -> None:
    for more in ((), ("--no-stream",)):
        holds(llm(target, "-m", "our-responses", "one two three", *more).strip())
