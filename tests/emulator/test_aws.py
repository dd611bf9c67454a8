"""S3 and DynamoDB beside the emulator, asked by boto3 as a container would ask."""

from __future__ import annotations

import http.client
import io
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from emulator.aws import Aws, BucketOwners, one_account

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def aws() -> Iterator[Aws]:
    with Aws() as aws:
        yield aws


def client(aws: Aws, service: str) -> Any:
    """A client made from the environment that containers get, and from nothing else."""
    given = aws.environment()
    return boto3.session.Session().client(
        service,
        endpoint_url=given["AWS_ENDPOINT_URL"],
        region_name=given["AWS_REGION"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
    )


def make_counter(aws: Aws, name: str = "counters") -> Any:
    dynamodb = client(aws, "dynamodb")
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName=name, Item={"pk": {"S": "c"}, "n": {"N": "0"}})
    return dynamodb


def test_an_object_put_with_boto3_comes_back_whole_and_is_listed(aws: Aws) -> None:
    s3 = client(aws, "s3")
    s3.create_bucket(Bucket="weights")
    body = bytes(range(256)) * 4096
    s3.put_object(Bucket="weights", Key="a/b c", Body=body)
    assert s3.get_object(Bucket="weights", Key="a/b c")["Body"].read() == body
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="weights")["Contents"]] == ["a/b c"]


def test_the_environment_alone_is_enough_for_an_unconfigured_boto3(aws: Aws) -> None:
    code = "import boto3; s3 = boto3.client('s3'); s3.create_bucket(Bucket='bucket'); print(s3.list_buckets())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=aws.environment(), capture_output=True, text=True, check=False
    )
    assert "'Name': 'bucket'" in done.stdout, done.stderr


@pytest.mark.slow
def test_conditional_updates_of_many_threads_never_pass_their_limit(aws: Aws) -> None:
    clients = [make_counter(aws), *(client(aws, "dynamodb") for _ in range(7))]
    limit = 40

    def add(number: int) -> int:
        try:
            clients[number % 8].update_item(
                TableName="counters",
                Key={"pk": {"S": "c"}},
                UpdateExpression="ADD n :one",
                ConditionExpression="n < :limit",
                ExpressionAttributeValues={":one": {"N": "1"}, ":limit": {"N": str(limit)}},
            )
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ConditionalCheckFailedException"
            return 0
        return 1

    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(add, range(64)))
    assert taken == limit
    assert clients[0].get_item(TableName="counters", Key={"pk": {"S": "c"}})["Item"]["n"] == {"N": str(limit)}


def test_requests_that_write_are_served_one_at_a_time_and_reads_together() -> None:
    active, peaks, counting = 0, {"GET": 0, "POST": 0}, threading.Lock()
    together = threading.Barrier(4)

    def store(environ: dict[str, Any], _start: object) -> list[bytes]:
        nonlocal active
        method = environ["REQUEST_METHOD"]
        with counting:
            active += 1
            peaks[method] = max(peaks[method], active)
        if method == "GET":
            together.wait(timeout=60)
        else:
            threading.Event().wait(0.01)  # long enough for another to come in, if it could
        with counting:
            active -= 1
        return [environ["wsgi.input"].read()]

    served = one_account(store, "1" * 12, BucketOwners())

    def ask(method: str) -> list[bytes]:
        environ = {"REQUEST_METHOD": method, "CONTENT_LENGTH": "4", "wsgi.input": io.BytesIO(b"body and more")}
        answer: list[bytes] = served(environ, None)
        return answer

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, ["POST"] * 8)) == [[b"body"]] * 8
        list(threads.map(ask, ["GET"] * 4))
    assert peaks == {"GET": 4, "POST": 1}


@pytest.mark.slow
def test_two_emulators_in_one_process_do_not_see_each_others_state(aws: Aws) -> None:
    with Aws() as other:
        for emulator, text in ((aws, b"one"), (other, b"two")):
            client(emulator, "s3").create_bucket(Bucket="same")
            client(emulator, "s3").put_object(Bucket="same", Key="k", Body=text)
            make_counter(emulator, "same")
        assert client(aws, "s3").get_object(Bucket="same", Key="k")["Body"].read() == b"one"
    assert client(aws, "s3").get_object(Bucket="same", Key="k")["Body"].read() == b"one"
    assert client(aws, "dynamodb").list_tables()["TableNames"] == ["same"]


@pytest.mark.slow
def test_a_new_emulator_starts_empty() -> None:
    with Aws() as first:
        client(first, "s3").create_bucket(Bucket="gone")
    with Aws() as second:
        assert client(second, "s3").list_buckets()["Buckets"] == []


def test_closing_frees_the_port_whether_or_not_anyone_asked() -> None:
    for asked in (False, True):
        with Aws() as aws:
            port = aws.port
            if asked:
                client(aws, "s3").list_buckets()
        with socket.socket() as free:
            free.bind(("127.0.0.1", port))


def answer(aws: Aws, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Status and headers of a plain request, as a browser's."""
    connection = http.client.HTTPConnection("127.0.0.1", aws.port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "OPTIONS"])
def test_a_website_is_refused_whatever_it_asks(aws: Aws, method: str) -> None:
    client(aws, "s3").create_bucket(Bucket="mine")
    asked = {"Access-Control-Request-Method": "PUT", "Content-Length": "0"}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Host": f"evil.example:{aws.port}"},  # its name leads to 127.0.0.1
    ):
        status, answered = answer(aws, method, "/mine/key", {**headers, **asked})
        assert status == 403
        assert not [name for name in answered if name.startswith("access-control-")]
    assert "Contents" not in client(aws, "s3").list_objects_v2(Bucket="mine")


def test_a_page_of_this_machine_sees_what_the_buckets_own_rules_allow(aws: Aws) -> None:
    s3 = client(aws, "s3")
    s3.create_bucket(Bucket="mine")
    page = {"Origin": "http://localhost:3000", "Host": f"localhost:{aws.port}"}
    status, answered = answer(aws, "GET", "/mine", page)
    assert status == 200
    assert "access-control-allow-origin" not in answered
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["http://localhost:3000"]}
    s3.put_bucket_cors(Bucket="mine", CORSConfiguration={"CORSRules": [rule]})
    preflight = answer(aws, "OPTIONS", "/mine/key", {**page, "Access-Control-Request-Method": "GET"})
    assert preflight[0] == 200
    assert preflight[1]["access-control-allow-origin"] == "http://localhost:3000"


def test_motos_administration_is_not_reachable(aws: Aws) -> None:
    client(aws, "s3").create_bucket(Bucket="kept")
    for path in ("/moto-api/reset", "/moto-api/", "/moto-api/data.json"):
        assert answer(aws, "POST", path, {"Content-Length": "0"})[0] == 404
    assert [bucket["Name"] for bucket in client(aws, "s3").list_buckets()["Buckets"]] == ["kept"]


def test_starting_imports_nothing_of_moto() -> None:
    code = "import sys; from emulator.aws import Aws\nwith Aws(): print('moto' in sys.modules, 'boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False False\n", done.stderr
