"""Makes the table and the bucket that `infra.blueprint` describes, as far as they are not there as they should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra import blueprint
from infra.aws import ObjectMissing, StateUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.aws import Clients

_OF_THE_TABLE_ITSELF = (
    "BillingMode", "AttributeDefinitions", "KeySchema", "LocalSecondaryIndexes", "GlobalSecondaryIndexes",
)  # fmt: skip
"""What CreateTable takes as CloudFormation says it."""
_REGION_WITHOUT_A_NAME = "us-east-1"


class ProvisionError(Exception):
    """What is there cannot be made into what is needed: the message says why, and what can be done."""


@dataclass(frozen=True)
class Step:
    """One change that is needed."""

    what: str
    do: Callable[[], object]


class Provision:
    """`steps` looks and says what is missing; a step is done by calling `do`. Doing all of them again changes nothing.

    Everything raises StateUnavailable when AWS cannot be asked or refuses.
    """

    def __init__(
        self, clients: Clients, *, table_name: str, bucket_name: str, archive_days: int = blueprint.ARCHIVE_DAYS
    ) -> None:
        self._clients = clients
        self._table = table_name
        self._bucket = bucket_name
        self._archive_days = archive_days

    def steps(self) -> Iterator[Step]:
        """What is missing, in order. One at a time: what comes next may depend on the last one's being done, or be
        taken as missing with it. Raises ProvisionError."""
        yield from self.table_steps()
        yield from self.bucket_steps()

    def table_steps(self) -> Iterator[Step]:
        """What the table alone lacks. Raises ProvisionError."""
        wanted = blueprint.table(self._table)
        found = self._found_table()
        if found is None:
            yield Step(f"table {self._table}", lambda: self._make_table(wanted))
        else:
            self._refuse_another_shape(found, wanted)
        lifetime = wanted["TimeToLiveSpecification"]
        if found is None or self._lifetime() != lifetime["AttributeName"]:
            yield Step(f"table {self._table}: time to live by `{lifetime['AttributeName']}`",
                       lambda: self._dynamodb("update_time_to_live", TimeToLiveSpecification=lifetime))  # fmt: skip
        recovery = wanted["PointInTimeRecoverySpecification"]
        if found is None or not self._recovers():
            yield Step(f"table {self._table}: point-in-time recovery",
                       lambda: self._dynamodb("update_continuous_backups",
                                              PointInTimeRecoverySpecification=recovery))  # fmt: skip

    def bucket_steps(self) -> Iterator[Step]:
        """What the bucket alone lacks. Raises ProvisionError."""
        wanted = blueprint.bucket(self._bucket, archive_days=self._archive_days)
        there = self._bucket_is_there()
        if not there:
            yield Step(f"bucket {self._bucket}", self._make_bucket)
        parts = {
            "encryption": ("bucket_encryption", "ServerSideEncryptionConfiguration", {
                "Rules": [
                    {"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]}
                    for rule in wanted["BucketEncryption"]["ServerSideEncryptionConfiguration"]
                ]
            }),
            "no public access": (
                "public_access_block", "PublicAccessBlockConfiguration", wanted["PublicAccessBlockConfiguration"]
            ),
            "lifecycle": ("bucket_lifecycle_configuration", "LifecycleConfiguration", {
                "Rules": [_as_api(rule) for rule in wanted["LifecycleConfiguration"]["Rules"]]
            }),
        }  # fmt: skip
        for what, (noun, argument, value) in parts.items():
            if not there or not self._has(noun, value):
                yield Step(f"bucket {self._bucket}: {what}",
                           lambda noun=noun, argument=argument, value=value:  # type: ignore[misc]
                           self._s3(f"put_{noun}", **{argument: value}))  # fmt: skip

    def _found_table(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._dynamodb("describe_table")["Table"]
        except StateUnavailable as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise
        return found

    def _make_table(self, wanted: dict[str, Any]) -> None:
        try:
            self._dynamodb("create_table", **{name: wanted[name] for name in _OF_THE_TABLE_ITSELF})
        except StateUnavailable as error:
            if error.code != "ResourceInUseException":  # the first try was carried out, and its answer lost
                raise
        self._clients.client("dynamodb").get_waiter("table_exists").wait(
            TableName=self._table, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
        )

    def _refuse_another_shape(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        def shape(of: dict[str, Any]) -> Any:
            kinds = ("LocalSecondaryIndexes", "GlobalSecondaryIndexes")
            indexes = {index["IndexName"]: index["KeySchema"] for kind in kinds for index in of.get(kind, ())}
            return of["KeySchema"], indexes

        if shape(found) != shape(wanted):
            raise ProvisionError(
                f"the table {self._table} is there with other keys or indexes, which cannot be changed: set "
                "state.table to another name, or move its items"
            )

    def _lifetime(self) -> str | None:
        found = self._dynamodb("describe_time_to_live")["TimeToLiveDescription"]
        return found.get("AttributeName") if found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") else None

    def _recovers(self) -> bool:
        found = self._dynamodb("describe_continuous_backups")["ContinuousBackupsDescription"]
        status = found.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
        return bool(status == "ENABLED")

    def _bucket_is_there(self) -> bool:
        try:
            self._s3("head_bucket")
        except ObjectMissing:
            return False
        except StateUnavailable as error:
            if error.code in ("403", "Forbidden"):
                raise ProvisionError(
                    f"the bucket {self._bucket} is somebody else's, or these credentials may not see it: names of "
                    "buckets are one for all of AWS. Set state.bucket to a name of your own"
                ) from error
            raise
        return True

    def _make_bucket(self) -> None:
        region = self._clients.client("s3").meta.region_name
        where = {} if region == _REGION_WITHOUT_A_NAME else {"LocationConstraint": region}
        try:
            self._s3("create_bucket", **({"CreateBucketConfiguration": where} if where else {}))
        except StateUnavailable as error:
            if error.code != "BucketAlreadyOwnedByYou":  # likewise
                raise

    def _has(self, noun: str, value: Any) -> bool:
        try:
            found = self._s3(f"get_{noun}")
        except (ObjectMissing, StateUnavailable) as error:
            if isinstance(error, ObjectMissing) or error.code in _NOT_SET:
                return False
            raise
        return any(_includes(part, value) for part in (found, *found.values()))

    def _dynamodb(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._clients.call_now("dynamodb", operation, TableName=self._table, **arguments)

    def _s3(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._clients.call_now("s3", operation, Bucket=self._bucket, **arguments)


_NOT_SET = frozenset({
    "ServerSideEncryptionConfigurationNotFoundError", "NoSuchPublicAccessBlockConfiguration",
    "NoSuchLifecycleConfiguration",
})  # fmt: skip


def _as_api(rule: dict[str, Any]) -> dict[str, Any]:
    """A lifecycle's rule of CloudFormation as S3's API says it."""
    spelled_otherwise = {"Id", "Prefix", "ExpirationInDays"}
    others = {name: value for name, value in rule.items() if name not in spelled_otherwise}
    ends = {"Expiration": {"Days": rule["ExpirationInDays"]}} if "ExpirationInDays" in rule else {}
    return {"ID": rule["Id"], "Filter": {"Prefix": rule["Prefix"]}, **ends, **others}


def _includes(found: Any, wanted: Any) -> bool:
    """Whether what is there says all that is wanted, and maybe more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_includes(found.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and all(any(_includes(one, each) for one in found) for each in wanted)
    return bool(found == wanted)
