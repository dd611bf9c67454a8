"""What a doctor says, and about whom."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from infra.local import on_this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.settings import Settings

Level = Literal["OK", "WARN", "FAIL"]
Form = Literal["serve", "modal"]
"""Of running the service: as processes of this machine (`make serve`, containers, systemd), or deployed to Modal."""
FORMS: tuple[Form, ...] = ("serve", "modal")


@dataclass(frozen=True)
class Finding:
    """One line. `do`: what to do about it; empty where all is well."""

    check: str
    level: Level
    says: str
    do: str = ""


@dataclass(frozen=True)
class Case:
    """What is looked at. `settings`: as they were read, None where they cannot be."""

    settings: Settings
    environment: Mapping[str, str]
    form: Form | None = None
    """What the service is to be run as; None: here, and maybe on Modal, so that what only Modal lacks is no failure."""
    url: str | None = None
    """Of a service that runs; None: the one on this machine, if there is one."""
    now: Callable[[], float] = field(default=time.time)

    @cached_property
    def here(self) -> Settings:
        """The settings as the service without Modal takes them."""
        return on_this_machine(self.settings)

    def looks_at(self, form: Form) -> bool:
        return self.form in (None, form)

    def bad(self, form: Form) -> Level:
        """How bad it is for the patient that `form` would not work."""
        return "FAIL" if form == (self.form or "serve") else "WARN"

    @property
    def bad_state(self) -> Level | None:
        """How bad it is that AWS would not do its part; None: it has none."""
        wanting = [form for form in FORMS if self.looks_at(form) and self.settings_of(form).state.kind == "aws"]
        return self.bad(wanting[0]) if wanting else None

    def settings_of(self, form: Form) -> Settings:
        return self.here if form == "serve" else self.settings
