"""A table and a bucket of a test's own, on the emulator's S3 and DynamoDB."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
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
    needed: set[tuple[str, str]] = field(default_factory=set)
    """The permissions that all tests' calls need: action and resource (the end of its ARN)."""

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
        """Note what the service calls from now on. Harmless when repeated; to be repeated when its clients were closed,
        which are others then."""

        def note(model: Any, **_: Any) -> None:
            self.calls.append(f"{model.service_model.service_name}:{model.name}")

        def permit(params: dict[str, Any], model: Any, **_: Any) -> None:
            self.needed.update(permissions(model.service_model.service_name, model.name, params))

        for service in ("dynamodb", "s3"):
            events = self.clients.client(service).meta.events  # type: ignore[arg-type]
            events.register("before-call", note, unique_id="calls of a test")
            events.register("before-parameter-build", permit, unique_id="permissions of a test")


S3_ACTIONS = {
    "ListObjectsV2": "ListBucket",
    "HeadObject": "GetObject",
    **dict.fromkeys(("CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"), "PutObject"),
}
"""The actions of operations that are not called as they are."""


def permissions(service: str, operation: str, arguments: dict[str, Any]) -> set[tuple[str, str]]:
    """What IAM asks for before it allows a call, as AWS's service authorization reference says: action and the end of
    the resource's ARN. A transaction needs what its parts do, a list of objects is the bucket's to allow."""
    if operation == "TransactWriteItems":
        actions = {"Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem"}
        parts = [(actions[kind], part) for one in arguments["TransactItems"] for kind, part in one.items()]
        return {(f"dynamodb:{action}", f"table/{part['TableName']}") for action, part in parts}
    if service == "dynamodb":
        index = f"/index/{arguments['IndexName']}" if "IndexName" in arguments else ""
        return {(f"dynamodb:{operation}", f"table/{arguments['TableName']}{index}")}
    bucket = arguments["Bucket"]
    if operation == "DeleteObjects":
        return {("s3:DeleteObject", f"{bucket}/{one['Key']}") for one in arguments["Delete"]["Objects"]}
    key = f"/{arguments['Key']}" if "Key" in arguments else ""
    needed = {(f"s3:{S3_ACTIONS.get(operation, operation)}", f"{bucket}{key}")}
    if operation == "CopyObject":
        source = arguments["CopySource"]
        name = source if isinstance(source, str) else f"{source['Bucket']}/{source['Key']}"
        needed.add(("s3:GetObject", name))
    return needed


def forbidden(policy: dict[str, Any], needed: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the permissions that a policy does not give."""

    def given(action: str, resource: str) -> bool:
        return any(
            action in statement["Action"]
            and any(fnmatchcase(resource, arn.rpartition(":")[2]) for arn in statement["Resource"])
            for statement in policy["Statement"]
        )

    return {one for one in needed if not given(*one)}


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
