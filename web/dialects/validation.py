"""A body against its schema: what is at fault is named as the caller wrote it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

Json = dict[str, Any]

SURELY_SHALLOW = 200
"""Brackets in a body that cannot be nested too deeply."""


def json_object(body: bytes | str, *, what: str = "The request's body") -> Json:
    """The JSON object that a body is. Raises InvalidRequest, which calls it `what`."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = str(error).partition(":")[0]
        raise InvalidRequest(f"{what} is not JSON: {reason}.", code="invalid_json") from None
    if not isinstance(given, dict):
        raise InvalidRequest(f"{what} is not a JSON object.", code="invalid_json")
    return given


def validated(
    body: bytes, schema: type[BaseModel], *, refused: Mapping[str, str], codes: Mapping[str, str] | None = None
) -> Json:
    """The JSON object in `body`, as it came, once it is known to fit `schema`.

    `refused`: fields that change the answer and are not honoured -> why not; said, unless they are null, false or
    empty. `codes`: the error's code, of those that have one of their own. Raises InvalidRequest naming the parameter at
    fault.
    """
    given = json_object(body)
    if body.count(b"{") + body.count(b"[") > SURELY_SHALLOW:
        _check_depth(given)
    for name in given:
        if name in refused and given[name]:
            code = (codes or {}).get(name, "unsupported_parameter")
            raise InvalidRequest(f"'{name}' is not supported. {refused[name]}", param=name, code=code)
    try:
        schema.model_validate(given)
    except ValidationError as error:
        raise explained(error.errors(include_url=False), given) from None
    return given


def _check_depth(given: Json) -> None:
    """orjson reads 1,024 levels and writes 254: what is read must be fit to be told to an engine, a little deeper."""
    try:
        orjson.dumps([[[[[given]]]]])
    except TypeError:
        raise InvalidRequest("The request's body is nested too deeply.", code="invalid_json") from None


def explained(mistakes: list[ErrorDetails], given: Json) -> InvalidRequest:
    """The mistake that lies deepest, and there a wrong value before a wrong type: of the branches of a union, that
    is the one which the caller meant."""
    paths = [(_where(mistake, given), mistake) for mistake in mistakes]
    path, mistake = max(paths, key=lambda pair: (len(pair[0]), not _of_type(pair[1])))
    param = _spelled(path)
    if mistake["type"] in ("missing", "union_tag_not_found"):
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    kind = "invalid_type" if _of_type(mistake) else "invalid_value"
    alike = {_told(other) for where, other in paths if where == path and _of_type(other) == _of_type(mistake)}
    return InvalidRequest(f"Invalid value for '{param}': {'; or '.join(sorted(alike))}.", param=param, code=kind)


def _told(mistake: ErrorDetails) -> str:
    return mistake["msg"].removeprefix("Value error, ")


def _of_type(mistake: ErrorDetails) -> bool:
    return mistake["type"].endswith("_type")


def _where(mistake: ErrorDetails, given: Json) -> list[int | str]:
    path = _path(mistake["loc"], given, missing=mistake["type"] == "missing")
    if mistake["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(mistake["ctx"]["discriminator"].strip("'"))
    return path


def _path(location: tuple[int | str, ...], given: Any, *, missing: bool) -> list[int | str]:
    """Where in the body a mistake lies: pydantic's location without the names of union branches. `missing`: its last
    step is a field that is not there."""
    path: list[int | str] = []
    here = given
    for position, step in enumerate(location):
        absent = missing and position == len(location) - 1
        if isinstance(here, dict) and isinstance(step, str) and (step in here or absent):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            continue
        path.append(step)
    return path


def _spelled(path: list[int | str]) -> str:
    spelled = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return spelled.removeprefix(".")
