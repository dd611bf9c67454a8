"""An S3 and a DynamoDB that throttle, fail and fall silent because a test says so, as boto3 sees them."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError

from emulator.emulator import Emulator
from emulator.faults.aws import s3_operation
from emulator.faults.faults import Faults
from emulator.testing.aws import AwsAccess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=0.5)
"""A client that does not try again."""
AGAIN = Config(retries={"total_max_attempts": 3, "mode": "standard"})


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        access = AwsAccess(emulator)
        access.client("s3").create_bucket(Bucket="orders")
        access.client("dynamodb").create_table(
            TableName="orders",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield emulator


@pytest.fixture
def faults(emulator: Emulator) -> Iterator[Faults]:
    yield emulator.faults
    emulator.faults.clear()


@pytest.fixture
def s3(emulator: Emulator) -> Any:
    return AwsAccess(emulator).client("s3", config=ONCE)


@pytest.fixture
def dynamodb(emulator: Emulator) -> Any:
    return AwsAccess(emulator).client("dynamodb", config=ONCE)


def item(pk: str) -> dict[str, Any]:
    return {"TableName": "orders", "Item": {"pk": {"S": pk}}, "ConditionExpression": "attribute_not_exists(pk)"}


def has(dynamodb: Any, pk: str) -> bool:
    return "Item" in dynamodb.get_item(TableName="orders", Key={"pk": {"S": pk}})


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.slow
def test_dynamodb_throttles_one_operation_and_no_other(faults: Faults, dynamodb: Any) -> None:
    fault = faults.dynamodb("throttle", operation="PutItem", times=2)
    for _ in range(2):
        with pytest.raises(dynamodb.exceptions.ProvisionedThroughputExceededException) as error:
            dynamodb.put_item(**item("throttled"))
        assert code(error) == ("ProvisionedThroughputExceededException", 400)
        assert not has(dynamodb, "throttled")
    dynamodb.put_item(**item("throttled"))
    assert has(dynamodb, "throttled")
    assert fault.struck == 2


@pytest.mark.slow
def test_boto3_tries_again_what_was_throttled(faults: Faults, emulator: Emulator) -> None:
    fault = faults.dynamodb("ThrottlingException", times=2)
    AwsAccess(emulator).client("dynamodb", config=AGAIN).put_item(**item("patient"))
    assert fault.struck == 2


@pytest.mark.parametrize(("error", "status"), [("throttle", 503), ("InternalError", 500), ("NoSuchKey", 404)])
def test_s3_fails_with_its_own_codes(faults: Faults, s3: Any, error: str, status: int) -> None:
    faults.s3(error, operation="PutObject")
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket="orders", Key="a", Body=b"x" * 100_000)
    assert code(raised) == ("SlowDown" if error == "throttle" else error, status)
    s3.put_object(Bucket="orders", Key="a", Body=b"x")
    assert s3.get_object(Bucket="orders", Key="a")["Body"].read() == b"x"


def test_a_refused_head_has_no_body_and_is_known_by_its_status(faults: Faults, s3: Any) -> None:
    faults.s3("SlowDown", operation="HeadObject")
    with pytest.raises(ClientError) as raised:
        s3.head_object(Bucket="orders", Key="a")
    assert code(raised) == ("503", 503)


def test_s3_and_dynamodb_fail_apart(faults: Faults, s3: Any, dynamodb: Any) -> None:
    fault = faults.s3("InternalError", times=None, share=1.0)
    assert not has(dynamodb, "nothing")
    for _ in range(2):
        with pytest.raises(ClientError):
            s3.list_buckets()
    assert fault.struck == 2


def test_an_answer_is_lost_after_the_write_was_done(faults: Faults, dynamodb: Any) -> None:
    faults.dynamodb("lost", operation="PutItem")
    with pytest.raises(ConnectionClosedError):
        dynamodb.put_item(**item("lost"))
    assert has(dynamodb, "lost")


def test_boto3_repeats_a_write_whose_answer_was_lost_and_meets_it(faults: Faults, emulator: Emulator) -> None:
    faults.dynamodb("lost", operation="PutItem")
    dynamodb = AwsAccess(emulator).client("dynamodb", config=AGAIN)
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(**item("twice"))


@pytest.mark.slow
def test_a_request_is_never_answered(faults: Faults, dynamodb: Any) -> None:
    faults.dynamodb("timeout")
    with pytest.raises(ReadTimeoutError):
        dynamodb.put_item(**item("silence"))
    assert not has(dynamodb, "silence")


def test_who_waits_for_no_answer_does_not_hold_up_the_end() -> None:
    ended = threading.Event()
    with Emulator() as emulator:
        access = AwsAccess(emulator)
        fault = emulator.faults.s3("timeout")

        def ask() -> None:
            with pytest.raises((BotoCoreError, ClientError)):
                access.client("s3", config=AGAIN).list_buckets()
            ended.set()

        asking = threading.Thread(target=ask)
        asking.start()
        emulator.wait(lambda: bool(fault.struck), within=30)
    asking.join(30)
    assert ended.is_set()


def test_a_share_of_requests_fails_the_same_ones_for_the_same_seed(faults: Faults, dynamodb: Any) -> None:
    def struck() -> list[bool]:
        fault = faults.dynamodb("throttle", operation="GetItem", share=0.5, seed=7)
        found = []
        for _ in range(20):
            before = fault.struck
            with suppress(ClientError):
                has(dynamodb, "any")
            found.append(fault.struck > before)
        fault.lift()
        return found

    first = struck()
    assert 0 < sum(first) < 20
    assert struck() == first


def test_what_cannot_happen_is_refused(faults: Faults) -> None:
    with pytest.raises(ValueError, match="'SlowDown' is no error of dynamodb here: use throttle, timeout, lost, "):
        faults.dynamodb("SlowDown")
    with pytest.raises(ValueError, match="'PutObjekt' is no operation of s3: use AbortMultipartUpload, "):
        faults.s3("throttle", operation="PutObjekt")
    with pytest.raises(ValueError, match="share=2"):
        faults.s3("throttle", share=2)


@pytest.mark.parametrize(
    ("method", "path", "query", "name"),
    [
        ("GET", "", "", "ListBuckets"),
        ("PUT", "b", "", "CreateBucket"),
        ("GET", "b", "list-type prefix", "ListObjectsV2"),
        ("GET", "b", "prefix", "ListObjects"),
        ("GET", "b", "versioning", ""),
        ("POST", "b", "delete", "DeleteObjects"),
        ("GET", "b", "uploads", "ListMultipartUploads"),
        ("GET", "b/k", "versionId X-Amz-Signature", "GetObject"),
        ("GET", "b/k", "tagging", ""),
        ("PUT", "b/k", "x-id", "PutObject"),
        ("POST", "b/k", "uploads", "CreateMultipartUpload"),
        ("PUT", "b/k", "uploadId partNumber", "UploadPart"),
        ("POST", "b/k", "uploadId", "CompleteMultipartUpload"),
        ("DELETE", "b/k", "uploadId", "AbortMultipartUpload"),
        ("DELETE", "b/k", "", "DeleteObject"),
    ],
)
def test_operations_of_s3_are_known_by_method_path_and_query(method: str, path: str, query: str, name: str) -> None:
    bucket, _, key = path.partition("/")
    found = s3_operation(
        method, has_bucket=bool(bucket), has_key=bool(key), parameters=set(query.split()), copies=False
    )
    assert found == name
