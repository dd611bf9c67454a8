"""How moto's own objects are kept: by the name of their class, attribute by attribute. Pure.

Not pickled: nothing of what is read can have code run, and a class that another moto does not have is told by its name.
"""

from __future__ import annotations

import importlib

ALLOWED = ("moto.s3.", "moto.dynamodb.", "moto.utilities.", "requests.structures")
"""Modules whose classes are known to be plain: nothing but their attributes makes an object of them."""


class MotoShapes:
    """Implements `Shapes`."""

    def take(self, value: object) -> tuple[str, object]:
        kind = type(value)
        if not kind.__module__.startswith(ALLOWED):
            raise TypeError(f"a {kind.__module__}.{kind.__qualname__} can not be kept")
        return f"{kind.__module__}:{kind.__qualname__}", dict(vars(value))

    def give(self, name: str, content: object) -> object:
        module, _, kind_name = name.partition(":")
        if not module.startswith(ALLOWED) or not isinstance(content, dict):
            raise ValueError(f"not an object of moto's: {name!r}")
        try:
            kind = getattr(importlib.import_module(module), kind_name)
            made: object = kind.__new__(kind)
        except (ImportError, AttributeError, TypeError) as error:
            raise ValueError(f"the installed moto knows no {name}") from error
        vars(made).update(content)
        return made
