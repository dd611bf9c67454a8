"""Whether a JSON Schema that a caller sends is one: said before an engine is woken, with the place that is wrong. Pure.

Only the structure is checked (JSON Schema 2020-12, and what older drafts call differently); which keywords an engine's
grammar can hold is the engine's to say.
"""

from __future__ import annotations

from typing import Any, NoReturn

from web.errors import InvalidRequest

TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
ONE = frozenset({
    "additionalProperties", "additionalItems", "items", "contains", "not", "if", "then", "else", "propertyNames",
    "unevaluatedProperties", "unevaluatedItems",
})  # fmt: skip
"""Keywords whose value is a schema."""
MANY = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""
NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose value is an object of schemas."""
COUNTS = frozenset({
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains",
})  # fmt: skip
NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})


def check_schema(schema: Any, where: str) -> None:
    """Raise InvalidRequest, naming the place below `where`, unless `schema` is a JSON Schema."""
    below = [(where, schema)]
    while below:
        path, here = below.pop()
        if isinstance(here, bool):
            continue
        if not isinstance(here, dict):
            _refuse(path, "a schema is an object, true or false")
        for name, value in here.items():
            _check_keyword(f"{path}.{name}", name, value, schema)
            below.extend(_inner(f"{path}.{name}", name, value))


def _inner(path: str, name: str, value: Any) -> list[tuple[str, Any]]:
    """The schemas in a keyword's value."""
    if name in MANY or (name == "items" and isinstance(value, list)):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    if name in NAMED:
        return [(f"{path}.{inner}", item) for inner, item in value.items()]
    return [(path, value)] if name in ONE else []


def _check_keyword(path: str, name: str, value: Any, root: Any) -> None:
    if name == "type":
        given = value if isinstance(value, list) else [value]
        if not given or not all(isinstance(one, str) and one in TYPES for one in given):
            _refuse(path, f"expected one of {', '.join(sorted(TYPES))}")
    elif name in MANY:
        if not isinstance(value, list) or not value:
            _refuse(path, "expected a list of schemas")
    elif name in NAMED:
        if not isinstance(value, dict):
            _refuse(path, "expected an object of schemas")
    elif name == "required":
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            _refuse(path, "expected a list of names")
    elif name == "enum":
        if not isinstance(value, list) or not value:
            _refuse(path, "expected a list of values")
    elif name == "pattern":
        if not isinstance(value, str):
            _refuse(path, "expected a string")
    elif name == "$ref":
        if not _resolves(value, root):
            _refuse(path, "expected a reference within this schema, like #/$defs/name")
    elif name in COUNTS:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            _refuse(path, "expected a whole number, 0 or more")
    elif name in NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float))):
        _refuse(path, "expected a number")


def _resolves(reference: Any, root: Any) -> bool:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return False
    here = root
    for escaped in reference.split("/")[1:]:
        step = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isascii() and step.isdigit() and int(step) < len(here):
            here = here[int(step)]
        else:
            return False
    return isinstance(here, (dict, bool))


def _refuse(path: str, expected: str) -> NoReturn:
    raise InvalidRequest(f"Invalid schema: '{path}': {expected}.", param=path, code="invalid_schema")
