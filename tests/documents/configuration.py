"""The configuration reference, made from the settings: their fields, bounds, defaults and docstrings."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import types
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from infra.configuration import SHORT_NAMES
from infra.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

HEAD = """\
# Configuration

<!-- Made from the settings by `make docs`: change the docstrings in infra/, not this file. -->

Everything has a default: without a file and without any variable the service runs. What you change stands in
`config.toml`, in the folder from which you deploy or start (or in the file that `CONFIG_FILE` names);
`config.example.toml` has every key with its default. Unknown keys, and values that do not fit, stop the start with one
line that names the key.

The environment wins over the file. Each key is overridden as `SECTION__KEY` (`SERVER__PORT=8080`,
`WEB__SCALING__MAX_CONTAINERS=2`; lists and tables as JSON: `MODELS__AVAILABLE_MODELS='[{"id": …}]'`), and some by a
short name, which the table of their section tells. `SECTION__KEY` wins over the short name. `API_KEY` stands for a list
`security.api_keys` of one.

Settings are resolved once, where the app is deployed or started; containers are told the result, and secrets by other
ways ([architecture.md](architecture.md)). `.venv/bin/python -m functions.standalone --check` prints what they come to,
without secrets.
"""
BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
PLAIN = {
    str: "text", int: "whole number", float: "number", Decimal: "number, exact", bool: "true or false",
    SecretStr: "text (secret)", datetime: "time with its zone", IPv4Network: "network", IPv6Network: "network",
}  # fmt: skip


def reference(example: str) -> str:
    """The whole document. `example`: the text of config.example.toml, whose comments stand for missing docstrings."""
    comments = comments_of(example)
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        parts += _section(name, _model_of(field.annotation), comments)
    return "\n".join(parts)


def comments_of(example: str) -> dict[str, str]:
    """`section.key` -> the comment behind it; `[section]` -> the one behind its header."""
    found: dict[str, str] = {}
    section = last = ""
    for line in example.splitlines():
        if header := re.match(r"(?:# )?\[+([\w.]+)\]+\s*(?:#\s*(.*))?$", line):
            section, last = header[1], ""
            found.setdefault(f"[{section}]", header[2] or "")
        elif key := re.match(r"(?:# ?)?(\w+) = .*?\s#\s+(.*)$", line):
            last = f"{section}.{key[1]}"
            found.setdefault(last, key[2])
        elif last and (more := re.match(r"\s{20,}#\s+(.*)$", line)):
            found[last] += f" {more[1]}"
    return found


def _section(path: str, model: type[BaseModel], comments: dict[str, str], *, many: bool = False) -> list[str]:
    title = f"[[{path}]]" if many else f"[{path}]"
    text = one_line(inspect.cleandoc(model.__dict__.get("__doc__") or "")) or sentence(comments.get(f"[{path}]", ""))
    lines = [
        f"## `{title}`",
        "",
        *([text, ""] if text else []),
        "| Key | What it takes | Default | |",
        "|---|---|---|---|",
    ]
    below: list[tuple[str, type[BaseModel], bool]] = []
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is not None:
            listed = "tuple" in str(field.annotation)
            below.append((f"{path}.{name}", inner, listed))
            if not listed:
                continue
        text = told(path, name, model, comments) or ("The tables below." if inner else "")
        lines.append(f"| `{name}` | {kind(field)} | {default(field, inner)} | {text} |")
    lines.append("")
    for inner_path, inner_model, listed in below:
        lines += _section(inner_path, inner_model, comments, many=listed)
    return lines


def told(path: str, name: str, model: type[BaseModel], comments: dict[str, str]) -> str:
    """What is said of one key: its docstring, or else the example's comment; and its short names."""
    text = docstrings(model).get(name) or sentence(comments.get(f"{path}.{name}", ""))
    short = [variable for variable, place in SHORT_NAMES.items() if ".".join(place) == f"{path}.{name}"]
    more = f" Short: {', '.join(f'`{variable}`' for variable in short)}." if short else ""
    return cell(one_line(text) + more)


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the string below it, of the class and of those that it comes from."""
    found: dict[str, str] = {}
    for kind_ in reversed(model.__mro__):
        if kind_ is BaseModel or not issubclass(kind_, BaseModel):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind_))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = str(text.value.value)
    return found


def kind(field: FieldInfo) -> str:
    """What may be written, in words, with its bounds."""
    bounds = [
        f"{sign} {value:g}" if isinstance(value, float) else f"{sign} {value}"
        for name, sign in BOUNDS
        for item in field.metadata
        if (value := getattr(item, name, None)) is not None
    ]
    bounds += _bounds_within(field.annotation)
    return cell(", ".join([_kind(field.annotation), *bounds]))


def _bounds_within(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _bounds_within(part)
    elif get_origin(annotation) is Annotated:
        for item in annotation.__metadata__:
            for one in getattr(item, "metadata", [item]):
                for name, sign in BOUNDS:
                    if (value := getattr(one, name, None)) is not None:
                        yield f"{sign} {value:g}" if isinstance(value, float) else f"{sign} {value}"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f'`"{one}"`' for one in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(one) for one in arguments if one is not type(None)))
    if origin is tuple:
        return f"list of: {_kind(arguments[0])}"
    if origin is dict:
        return f"table of: {_kind(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "tables"
    return PLAIN.get(annotation) or getattr(annotation, "__name__", str(annotation))


def default(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    if inner is not None:
        return "the demo model" if field.default else "none"
    if field.default is PydanticUndefined and field.default_factory is None:
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    return cell(f"`{json.dumps(value, ensure_ascii=False, default=str)}`")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The section that an annotation names, itself or a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for one in get_args(annotation):
        if (found := _model_of(one)) is not None:
            return found
    return None


def sentence(comment: str) -> str:
    """A comment, as a sentence."""
    return f"{comment[0].upper()}{comment[1:].rstrip('.')}." if comment else ""


def one_line(text: str) -> str:
    return " ".join(text.split())


def cell(text: str) -> str:
    return text.replace("|", "\\|")
