"""What the code in the demo model's corpus stands for: whether there is such a command, key, route, file or word."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer.main
from modal.cli.entry_point import entrypoint_cli

import emulator.cli
import infra.admin
from infra.access import ApiKey
from infra.configuration import SHORT_NAMES
from infra.settings import Model, Models, Scaling, Settings
from tests.configured_engines import ConfiguredEngines
from web.application import create_application
from web.engines import EngineTarget
from web.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator


ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ".venv/bin/"
PROSE: Final = ("README.md", "Makefile", "config.example.toml", ".gitignore", "docs/*.md", "web/auth.py")
OTHERS: Final = {"pip install dist/*.whl", 'eval "$(emulator env)"'}
"""Commands that are neither make's nor Python's nor modal's; the README or docs have them."""
PLACES: Final = {"your_app.py", "hello.py", "config.toml", "dist/"}
"""What the reader has, or will have."""


@dataclass(frozen=True)
class Code:
    """A piece of code in an answer or a phrasing: `language` is that of a block, and empty for a span."""

    language: str
    text: str


def pieces(text: str) -> Iterator[Code]:
    for language, block, span in re.findall(r"```(\w*)\n(.*?)```|`([^`\n]+)`", text, re.DOTALL):
        yield Code("", span) if span else Code(language, block)


class Checker:
    """Says what is wrong with a piece of code. Made once: it asks the application for its routes."""

    def __init__(self, routes: set[str]) -> None:
        self.routes = routes
        self.targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        self.variables = set(re.findall(r"[A-Z]+", (ROOT / "Makefile").read_text()))
        self.prose = "\n".join(file.read_text() for pattern in PROSE for file in sorted(ROOT.glob(pattern)))
        self.keys = _keys()
        self.clis: dict[str, Any] = {  # click's commands: typer brings a click of its own
            "modal": entrypoint_cli,
            "emulator": typer.main.get_command(emulator.cli.app),
            "infra.admin": typer.main.get_command(infra.admin.app),
        }

    def wrong(self, code: Code) -> str | None:
        """What is wrong with it; None where it stands for something that is there."""
        if code.language == "console":
            return next(filter(None, (self._command(line.removeprefix("$ ")) for line in code.text.splitlines())), None)
        if code.language == "toml":
            return self._toml(code.text)
        if code.language == "python":
            compile(code.text, "the corpus", "exec")
            return None
        return f"a block of {code.language}" if code.language else self._span(code.text)

    def _span(self, text: str) -> str | None:
        if text.split()[0] in ("make", "modal", "emulator", "python", "curl", PYTHON + "python", PYTHON + "modal"):
            return self._command(text)
        if match := re.fullmatch(r"(?:(GET|POST|DELETE|PATCH) )?(/[\w./{}-]*)", text):
            return self._route(match[2], match[1])
        if match := re.fullmatch(r"\[+([a-z_.]+)\]+", text):
            return None if match[1] in self.keys else "no section of the configuration"
        if re.fullmatch(r"[\w.-]*(/[\w.-]*)+|[\w-]+\.(py|md|toml)", text):
            return None if (ROOT / text).exists() or text in PLACES else "no file of the project"
        if match := re.fullmatch(r"([A-Z][A-Z_]+)(=\S+)?", text):
            return self._variable(match[1])
        if match := re.fullmatch(r"([a-z_]+(?:\.[a-z_]+)*)( = .+)?", text):
            if match[1] in self.keys:
                return self._toml(text) if match[2] else None
            if match[2] or (match[1].split(".")[0] in Settings.model_fields and "." in match[1]):
                return "no key of the configuration"
        return None if text in self.prose else "the documentation does not have it"

    def _command(self, line: str) -> str | None:
        if line in OTHERS:
            return None if line in self.prose else "the documentation does not have it"
        words = shlex.split(line)
        program = words.pop(0).removeprefix(PYTHON)
        if program == "make":
            return self._make(words)
        if program == "curl":
            return self._curl(words)
        if program == "python":
            if words[:1] != ["-m"] or len(words) < 2:
                return "Python runs modules here"
            program, words = words[1], words[2:]
        if program in self.clis:
            return self._subcommand(self.clis[program], words)
        if "." not in program or importlib.util.find_spec(program) is None:
            return f"there is no program {program!r}"
        source = (ROOT / f"{program.replace('.', '/')}.py").read_text()
        return next((f"{word} is no option" for word in words if f'"{word}"' not in source), None)

    def _make(self, words: list[str]) -> str | None:
        for word in words:
            name, separator, _ = word.partition("=")
            if name not in (self.variables if separator else self.targets):
                return f"the Makefile has no {name}"
        return None

    def _curl(self, words: list[str]) -> str | None:
        (url,) = (word for word in words if word.startswith("http://127.0.0.1:3000"))
        body = words[words.index("-d") + 1] if "-d" in words else None
        if body and json.loads(body)["model"] != "demo":
            return "no model that is there"
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET"
        return self._route(url.removeprefix("http://127.0.0.1:3000").split("?")[0], method)

    def _route(self, path: str, method: str | None) -> str | None:
        shape = re.sub(r"\{\w+\}|(?<=^/models/)demo\b", "{}", path)
        methods = [method] if method else ["GET", "POST", "DELETE"]
        if any(f"{one} {shape}" in self.routes for one in methods) or path == "/v1":
            return None
        return "no route of the application"

    def _subcommand(self, command: Any, words: list[str]) -> str | None:
        while command.name != "run" and isinstance(commands := getattr(command, "commands", None), dict) and words:
            found = commands.get(words[0])
            if found is None:
                return f"no command {words[0]!r}"
            command, words = found, words[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        for position, word in enumerate(words):
            if word == "--":
                return self._command(shlex.join(words[position + 1 :]))
            if word.startswith("--") and word not in options:
                return f"no option {word}"
            if word.endswith(".py") and word not in PLACES and not (ROOT / word).exists():
                return f"no file {word}"
        return None

    def _variable(self, name: str) -> str | None:
        if name in (*SHORT_NAMES, "API_KEY", "SECTION__KEY"):
            return None
        return None if name.replace("__", ".").lower() in self.keys else "no variable that is read"

    def _toml(self, text: str) -> str | None:
        unknown = [key for key in _paths(tomllib.loads(text)) if key not in self.keys]
        return f"no key {unknown[0]}" if unknown else None


def _paths(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield prefix + key
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _paths(inner, f"{prefix}{key}.")


def _keys() -> set[str]:
    """`section`, `section.key` and `key` of all settings, those of a model, its scaling and an API key among them."""
    tables: dict[str, Any] = {name: field.annotation for name, field in Settings.model_fields.items()}
    tables |= {"models.available_models": Model, "models.available_models.scaling": Scaling}
    tables |= {"models.available_models.prices": Model.model_fields["prices"].annotation}
    tables |= {"security.api_keys": ApiKey, "web.scaling": Settings().web.scaling.__class__}
    found = set(tables)
    for name, table in tables.items():
        found |= {f"{name}.{key}" for key in table.model_fields} | set(table.model_fields)
    return found


async def routes() -> set[str]:
    """`METHOD /path` of all that the application answers, with `{}` for what varies."""
    settings = Settings(models=Models())
    target = EngineTarget(url="http://127.0.0.1:9", kind="llamacpp", model="demo")
    services = Services(settings=settings, engines=ConfiguredEngines(settings.models, {"demo": target}))
    described = json.loads(await _get(create_application(services), "/openapi.json"))["paths"]
    found = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
        for path, methods in described.items()
        for method in methods
    }
    return found | {"GET /openapi.json", "GET /chat/ws"}


async def _get(application: Any, path: str) -> bytes:
    body = bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"service")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 3000),
    }  # fmt: skip
    await application(scope, receive, send)
    return bytes(body)
