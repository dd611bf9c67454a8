"""The settings of what is kept and of who looks after it: the sections `state` and `jobs`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.blueprint import ARCHIVE_DAYS
from infra.section import Section


class State(Section):
    """Where what outlives every container is kept."""

    kind: Literal["aws", "memory"] = "aws"
    """`aws`: DynamoDB and S3. `memory`: of each web container, and gone with it; standalone's, unless set."""
    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] | None = None
    """Name of the table in DynamoDB; `<app_name>-state` unless set."""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] | None = None
    """Name of the bucket in S3, which has to be nobody else's in all of AWS; `<app_name>-state` unless set."""
    region: str | None = None
    """AWS's; what boto3 finds in its environment unless set."""
    secret: str | None = None
    """The Modal Secret that gives the web containers AWS credentials (`AWS_ACCESS_KEY_ID`, …)."""
    role_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$")] | None = None
    """The role that containers on Modal take by their identity token, in place of a secret."""
    archive_days: Annotated[int, Field(ge=0, le=36500)] = ARCHIVE_DAYS
    """How long sessions that have expired are kept in the bucket; 0: they are removed. `infra.setup` tells S3."""


class Jobs(Section):
    """The housekeeping of what is kept: on Modal a scheduled function, elsewhere the service itself."""

    every_minutes: Annotated[int, Field(ge=5, le=60)] = 60

    @model_validator(mode="after")
    def _the_hour_divides(self) -> Self:
        if 60 % self.every_minutes:
            raise ValueError(f"every_minutes ({self.every_minutes}) does not divide the hour")
        return self

    @property
    def cron(self) -> str:
        """The same as five fields of cron."""
        return "0 * * * *" if self.every_minutes == 60 else f"*/{self.every_minutes} * * * *"
