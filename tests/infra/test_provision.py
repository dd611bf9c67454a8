"""The table and the bucket: made as the blueprint says, once, and repaired where something is missing."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from infra import blueprint
from infra.provision import Provision, ProvisionError
from infra.setup import main
from tests.aws_kit import clients_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.aws import Aws
    from infra.aws import Clients


@pytest.fixture(scope="module")
def clients(aws_server: Aws) -> Iterator[Clients]:
    made = clients_of(aws_server)
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    return f"p-{secrets.token_hex(6)}"


def provision(clients: Clients, name: str) -> list[str]:
    """What was made."""
    return [(step.do(), step.what)[1] for step in Provision(clients, table_name=name, bucket_name=name).steps()]


def test_table_and_bucket_are_made_as_the_template_says(clients: Clients, name: str) -> None:
    provision(clients, name)
    resources = blueprint.template(table_name=name, bucket_name=name)["Resources"]
    wanted = resources["Table"]["Properties"]
    dynamodb, s3 = clients.client("dynamodb"), clients.client("s3")
    table = dynamodb.describe_table(TableName=name)["Table"]
    assert table["KeySchema"] == wanted["KeySchema"]
    assert table["BillingModeSummary"]["BillingMode"] == wanted["BillingMode"]
    for kind in ("LocalSecondaryIndexes", "GlobalSecondaryIndexes"):
        for found, told in zip(table[kind], wanted[kind], strict=True):
            assert {part: found[part] for part in told} == told
    lives = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert lives["AttributeName"] == wanted["TimeToLiveSpecification"]["AttributeName"]
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    wanted = resources["Bucket"]["Properties"]
    access = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert access == wanted["PublicAccessBlockConfiguration"]
    (rule,) = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    unfinished, archives = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert unfinished["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == blueprint.ORPHAN_DAYS
    assert archives["Filter"] == {"Prefix": blueprint.ARCHIVES}
    assert archives["Expiration"]["Days"] == blueprint.ARCHIVE_DAYS


def test_what_is_there_is_left_alone_and_what_is_missing_is_made(clients: Clients, name: str) -> None:
    provision(clients, name)
    assert provision(clients, name) == []
    clients.client("s3").delete_bucket_lifecycle(Bucket=name)
    assert provision(clients, name) == [f"bucket {name}: lifecycle"]
    assert provision(clients, name) == []


def test_how_long_archives_are_kept_can_be_changed_later(clients: Clients, name: str) -> None:
    provision(clients, name)
    (step,) = Provision(clients, table_name=name, bucket_name=name, archive_days=7).steps()
    step.do()
    _, archives = clients.client("s3").get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert archives["Expiration"]["Days"] == 7


def test_looking_makes_nothing(clients: Clients, name: str) -> None:
    steps = [step.what for step in Provision(clients, table_name=name, bucket_name=name).steps()]
    assert steps[0] == f"table {name}"
    assert name not in clients.client("dynamodb").list_tables()["TableNames"]
    assert steps == [step.what for step in Provision(clients, table_name=name, bucket_name=name).steps()]


def test_a_table_of_another_shape_is_refused(clients: Clients, name: str) -> None:
    clients.client("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    with pytest.raises(ProvisionError, match=r"other keys or indexes.*state\.table"):
        provision(clients, name)


@pytest.mark.parametrize("flag", ["--cloudformation", "--policy"])
def test_template_and_policy_are_printed_for_the_configured_names(
    flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE__TABLE", "my-table")
    monkeypatch.setenv("STATE__BUCKET", "my-bucket")
    assert main([flag]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)
    assert "my-table" in printed
    assert "my-bucket" in printed
