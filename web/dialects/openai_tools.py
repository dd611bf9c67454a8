"""Tools, and the form of an answer: checked, and brought to the few forms that engines know. Pure."""

from __future__ import annotations

from typing import Any

from web.dialects.json_schema import check_schema
from web.errors import InvalidRequest

Json = dict[str, Any]


def settle_tools(fields: Json) -> None:
    """Check `tools` and `tool_choice`, which fit their types, and leave of them: tools or none, and a choice that is
    `none`, `auto`, `required` or one function. Raises InvalidRequest naming what is at fault."""
    choice = fields.get("tool_choice")
    if not fields.get("tools"):
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            fields.pop(name, None)
        if choice not in (None, "none", "auto"):
            raise _refusal("'tool_choice' is only allowed with 'tools'.", "tool_choice")
        return
    known: set[str] = set()
    for index, tool in enumerate(fields["tools"]):
        check_function(tool["function"], known, f"tools[{index}].function")
    if not isinstance(choice, dict):
        return
    if choice["type"] == "function":
        _check_known(choice, known, "tool_choice")
        return
    allowed = choice["allowed_tools"]
    for index, tool in enumerate(allowed["tools"]):
        _check_known(tool, known, f"tool_choice.allowed_tools.tools[{index}]")
    wanted = {tool["function"]["name"] for tool in allowed["tools"]}
    fields["tools"] = [tool for tool in fields["tools"] if tool["function"]["name"] in wanted]
    fields["tool_choice"] = allowed["mode"]


def check_function(function: Json, known: set[str], where: str, *, schema: str = "parameters") -> None:
    """Check that a function, found at `where`, has a name that is not `known` yet, and parameters that a schema
    describes. `schema`: what its field for that is called. Raises InvalidRequest naming what is at fault."""
    if function["name"] in known:
        raise _refusal(f"There are two tools named '{function['name']}'.", f"{where}.name")
    known.add(function["name"])
    parameters = function.get(schema)
    if not parameters:
        return
    check_schema(parameters, f"{where}.{schema}")
    if parameters.get("type", "object") != "object":
        raise InvalidRequest(
            "A function's parameters are an object.", param=f"{where}.{schema}.type", code="invalid_schema"
        )


def _check_known(choice: Json, known: set[str], where: str) -> None:
    name = choice["function"]["name"]
    if name not in known:
        raise _refusal(f"There is no tool named '{name[:64]}' in 'tools'.", f"{where}.function.name")


def settle_format(fields: Json) -> None:
    """Check `response_format`, and leave it out where it asks for text. A `json_schema` without a schema is any JSON
    object. Raises InvalidRequest naming the place in the schema that is wrong."""
    wanted = fields.get("response_format")
    if wanted is None:
        return
    if wanted["type"] == "text":
        del fields["response_format"]
    elif wanted["type"] == "json_schema":
        schema = wanted["json_schema"].get("schema")
        if schema is None:
            fields["response_format"] = {"type": "json_object"}
        else:
            check_schema(schema, "response_format.json_schema.schema")


def _refusal(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")
