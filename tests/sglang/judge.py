"""Runs where SGLang is installed, and imports nothing of ours: what SGLang says of command lines, and what it knows.

    python judge.py < question.json > verdicts.json

The question: `{"lines": [[argument, …], …], "resolved": [index, …]}`, the arguments after `sglang.launch_server`. The
answer: `{"parsed": [reason or null, …], "resolved": {index: reason or null}, "flags": {name: kind}, "choices": {name:
[…]}, "capabilities": {method: least}, "cpu_methods": […]}`. Resolving is all that SGLang's server does with its
arguments before it starts its processes, as far as it does not look for a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from typing import Any


def parsed(parser: argparse.ArgumentParser, line: list[str]) -> str | None:
    """Why SGLang's parser refuses a command line, if it does."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser.parse_args(line)
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    return None


def resolved(line: list[str]) -> str | None:
    """Why SGLang's own checks refuse it, if they do."""
    from sglang.srt.server_args import prepare_server_args

    try:
        arguments = prepare_server_args(line)
        arguments.resolve_once()
        arguments.check_server_args()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def kind_of(action: argparse.Action) -> str:
    if isinstance(action, argparse.BooleanOptionalAction):
        return "pair"
    if action.nargs == 0:
        return "switch"
    return "list" if action.nargs in ("+", "*") else "value"


def known(parser: argparse.ArgumentParser) -> dict[str, Any]:
    from sglang.srt.layers.quantization import CPU_QUANTIZATION_METHODS, QUANTIZATION_METHODS

    flags, choices, capabilities = {}, {}, {}
    for action in parser._actions:
        for option in action.option_strings:
            flags[option] = kind_of(action)
            if action.choices is not None:
                choices[option] = sorted(map(str, action.choices))
    for name, method in QUANTIZATION_METHODS.items():
        with contextlib.suppress(TypeError, NotImplementedError):  # of an instance: it depends on the checkpoint
            capabilities[name] = method.get_min_capability()
    return {
        "flags": flags,
        "choices": choices,
        "capabilities": capabilities,
        "cpu_methods": sorted(CPU_QUANTIZATION_METHODS),
    }


def main() -> None:
    question = json.load(sys.stdin)
    answers, sys.stdout = sys.stdout, sys.stderr  # SGLang prints
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser(prog="sglang serve")
    ServerArgs.add_cli_args(parser)
    lines = question["lines"]
    json.dump(
        {
            "parsed": [parsed(parser, line) for line in lines],
            "resolved": {index: resolved(lines[index]) for index in question["resolved"]},
            **known(parser),
        },
        answers,
    )


if __name__ == "__main__":
    main()
