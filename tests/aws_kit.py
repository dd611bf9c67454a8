"""A table and a bucket of a test's own, on the emulator's S3 and DynamoDB."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.aws import Clients
from infra.provision import Provision
from infra.table import Bucket, Table

if TYPE_CHECKING:
    from emulator.aws import Aws


@dataclass(frozen=True)
class StateOfTest:
    """`clients` are the service's, whose calls are recorded; `admin` are the test's own."""

    clients: Clients
    admin: Clients
    name: str
    """Of the table and of the bucket."""
    calls: list[str] = field(default_factory=list)
    """What the service has called, e.g. `dynamodb:GetItem`, oldest first. A test may clear it."""
    called: set[str] = field(default_factory=set)
    """The same of all tests."""

    @property
    def table(self) -> Table:
        return Table(self.clients, self.name)

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.clients, self.name)

    def objects(self) -> list[str]:
        """The names of all that lies in the bucket."""
        found = self.admin.client("s3").list_objects_v2(Bucket=self.name)
        return [one["Key"] for one in found.get("Contents", ())]

    def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.client("dynamodb").scan(TableName=self.name)["Items"]
        return found

    def empty(self) -> None:
        for name in self.objects():
            self.admin.client("s3").delete_object(Bucket=self.name, Key=name)
        for item in self.items():
            key = {name: item[name] for name in ("pk", "sk")}
            self.admin.client("dynamodb").delete_item(TableName=self.name, Key=key)
        self.calls.clear()

    def record(self) -> None:
        """Note what the service calls from now on."""

        def note(model: Any, **_: Any) -> None:
            called = f"{model.service_model.service_name}:{model.name}"
            self.calls.append(called)
            self.called.add(called)

        for service in ("dynamodb", "s3"):
            self.clients.client(service).meta.events.register("before-call", note)  # type: ignore[arg-type]


def clients_of(aws: Aws) -> Clients:
    """Clients of that emulator, whatever this process's environment says."""
    settings = aws.environment()
    return Clients(
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=settings["AWS_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )


def state_of(aws: Aws) -> StateOfTest:
    """Made anew, under a name that nobody else has."""
    state = StateOfTest(clients_of(aws), clients_of(aws), f"t-{secrets.token_hex(6)}")
    for step in Provision(state.admin, table_name=state.name, bucket_name=state.name).steps():
        step.do()
    state.record()
    return state
