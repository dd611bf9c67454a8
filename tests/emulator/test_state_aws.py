"""S3 and DynamoDB over restarts, asked by boto3: what was answered is there again, as it was."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from emulator.aws import Aws
from emulator.storage.kept_aws import KeptAws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


@contextmanager
def serving(folder: Path, said: list[str] | None = None) -> Iterator[tuple[Any, Any]]:
    """S3 and DynamoDB as clients."""
    with Aws(kept=KeptAws(folder, (said if said is not None else []).append)) as aws:
        given = aws.environment()
        s3, dynamodb = (
            boto3.session.Session().client(
                service,
                endpoint_url=given["AWS_ENDPOINT_URL"],
                region_name=given["AWS_REGION"],
                aws_access_key_id="k",
                aws_secret_access_key="s",
                config=Config(retries={"max_attempts": 0}),
            )
            for service in ("s3", "dynamodb")
        )
        yield s3, dynamodb


def without(response: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in response.items() if name not in ("ResponseMetadata", *names)}


@pytest.mark.slow
def test_objects_come_back_with_their_metadata_tags_and_times(tmp_path: Path) -> None:
    with serving(tmp_path) as (s3, _):
        s3.create_bucket(Bucket="plain")
        s3.put_object(
            Bucket="plain", Key="a/b c+ü", Body=b"body", Metadata={"who": "me"}, ContentType="text/x", Tagging="t=1"
        )
        s3.put_object(Bucket="plain", Key="large", Body=b"x" * (3 * MIB), CacheControl="no-store")
        s3.put_object(Bucket="plain", Key="empty", Body=b"")
        s3.put_object(Bucket="plain", Key="gone", Body=b"soon")
        s3.delete_object(Bucket="plain", Key="gone")
        s3.copy_object(Bucket="plain", Key="copy", CopySource={"Bucket": "plain", "Key": "large"})
        s3.delete_object(Bucket="plain", Key="large")
        s3.put_object_tagging(Bucket="plain", Key="copy", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
        s3.put_object_acl(Bucket="plain", Key="copy", ACL="public-read")
        before = [without(s3.head_object(Bucket="plain", Key=key)) for key in ("a/b c+ü", "empty", "copy")]
        listed = s3.list_objects_v2(Bucket="plain")["Contents"]
        acl = s3.get_object_acl(Bucket="plain", Key="copy")["Grants"]
        buckets = s3.list_buckets()["Buckets"]
    with serving(tmp_path) as (s3, _):
        assert s3.list_buckets()["Buckets"] == buckets
        assert s3.list_objects_v2(Bucket="plain")["Contents"] == listed
        assert [without(s3.head_object(Bucket="plain", Key=key)) for key in ("a/b c+ü", "empty", "copy")] == before
        assert s3.get_object(Bucket="plain", Key="a/b c+ü")["Body"].read() == b"body"
        assert s3.get_object(Bucket="plain", Key="copy")["Body"].read() == b"x" * (3 * MIB)
        assert s3.get_object(Bucket="plain", Key="copy", Range="bytes=1-3")["Body"].read() == b"xxx"
        assert s3.get_object_tagging(Bucket="plain", Key="copy")["TagSet"] == [{"Key": "k", "Value": "v"}]
        assert s3.get_object_tagging(Bucket="plain", Key="a/b c+ü")["TagSet"] == [{"Key": "t", "Value": "1"}]
        assert s3.get_object_acl(Bucket="plain", Key="copy")["Grants"] == acl
    assert len(list((tmp_path / "objects").iterdir())) == 3  # nothing of what was deleted


@pytest.mark.slow
def test_versions_and_delete_markers_keep_their_ids_and_their_order(tmp_path: Path) -> None:
    with serving(tmp_path) as (s3, _):
        s3.create_bucket(Bucket="versions")
        s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket="versions", Key="k", Body=b"1")["VersionId"]
        second = s3.put_object(Bucket="versions", Key="k", Body=b"2")["VersionId"]
        s3.put_object(Bucket="versions", Key="k", Body=b"3")
        s3.delete_object(Bucket="versions", Key="k", VersionId=second)
        marker = s3.delete_object(Bucket="versions", Key="k")["VersionId"]
        listed = without(s3.list_object_versions(Bucket="versions"))
    with serving(tmp_path) as (s3, _):
        assert without(s3.list_object_versions(Bucket="versions")) == listed
        with pytest.raises(ClientError, match="NoSuchKey"):
            s3.get_object(Bucket="versions", Key="k")
        s3.delete_object(Bucket="versions", Key="k", VersionId=marker)
        assert s3.get_object(Bucket="versions", Key="k")["Body"].read() == b"3"
        assert s3.get_object(Bucket="versions", Key="k", VersionId=first)["Body"].read() == b"1"


@pytest.mark.slow
def test_an_upload_in_parts_goes_on_after_a_restart_and_its_parts_are_known(tmp_path: Path) -> None:
    parts = [b"a" * (5 * MIB), b"b" * 100]
    with serving(tmp_path) as (s3, _):
        s3.create_bucket(Bucket="uploads")
        upload = s3.create_multipart_upload(Bucket="uploads", Key="k", Metadata={"m": "1"})["UploadId"]
        etag = s3.upload_part(Bucket="uploads", Key="k", UploadId=upload, PartNumber=1, Body=parts[0])["ETag"]
        aborted = s3.create_multipart_upload(Bucket="uploads", Key="other")["UploadId"]
        s3.upload_part(Bucket="uploads", Key="other", UploadId=aborted, PartNumber=1, Body=b"in vain")
        s3.abort_multipart_upload(Bucket="uploads", Key="other", UploadId=aborted)
    with serving(tmp_path) as (s3, _):
        assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket="uploads")["Uploads"]] == [upload]
        other = s3.upload_part(Bucket="uploads", Key="k", UploadId=upload, PartNumber=2, Body=parts[1])["ETag"]
        listed = [{"PartNumber": 1, "ETag": etag}, {"PartNumber": 2, "ETag": other}]
        s3.complete_multipart_upload(Bucket="uploads", Key="k", UploadId=upload, MultipartUpload={"Parts": listed})
        head = without(s3.head_object(Bucket="uploads", Key="k"))
        assert s3.head_object(Bucket="uploads", Key="k", PartNumber=2)["ContentLength"] == len(parts[1])
    with serving(tmp_path) as (s3, _):
        assert without(s3.head_object(Bucket="uploads", Key="k")) == head
        assert s3.get_object(Bucket="uploads", Key="k")["Body"].read() == b"".join(parts)
        assert s3.head_object(Bucket="uploads", Key="k", PartNumber=2)["ContentLength"] == len(parts[1])
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="uploads")
    assert len(list((tmp_path / "objects").iterdir())) == 1


@pytest.mark.slow
def test_what_a_bucket_was_told_comes_back(tmp_path: Path) -> None:
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    cors = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}
    with serving(tmp_path) as (s3, _):
        for name in ("told", "empty"):
            s3.create_bucket(Bucket=name)
        s3.put_bucket_lifecycle_configuration(Bucket="told", LifecycleConfiguration={"Rules": [rule]})
        s3.put_bucket_cors(Bucket="told", CORSConfiguration={"CORSRules": [cors]})
        s3.put_bucket_policy(Bucket="told", Policy='{"Statement": []}')
        s3.put_bucket_tagging(Bucket="told", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
        s3.put_public_access_block(
            Bucket="told", PublicAccessBlockConfiguration={"BlockPublicAcls": True, "IgnorePublicAcls": True}
        )
        s3.delete_bucket(Bucket="empty")
    with serving(tmp_path) as (s3, _):
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["told"]
        assert s3.get_bucket_lifecycle_configuration(Bucket="told")["Rules"][0]["Expiration"] == {"Days": 3}
        assert s3.get_bucket_cors(Bucket="told")["CORSRules"] == [cors]
        assert s3.get_bucket_policy(Bucket="told")["Policy"] == '{"Statement": []}'
        assert s3.get_bucket_tagging(Bucket="told")["TagSet"] == [{"Key": "k", "Value": "v"}]
        assert s3.get_public_access_block(Bucket="told")["PublicAccessBlockConfiguration"]["BlockPublicAcls"] is True


ITEM = {
    "pk": {"S": "ü"},
    "n": {"N": "1.50"},
    "all": {
        "M": {
            "b": {"B": b"\x00\xff"},
            "l": {"L": [{"S": "x"}, {"M": {"deep": {"N": "2"}}}, {"NULL": True}, {"BOOL": False}]},
            "ss": {"SS": ["a", "b"]},
            "bs": {"BS": [b"1", b"2"]},
            "ns": {"NS": ["1", "2"]},
        }
    },
    "raw": {"B": b"bytes"},
}


def make_table(dynamodb: Any, name: str = "things") -> None:
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "n", "AttributeType": "N"},
            {"AttributeName": "other", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-other",
                "KeySchema": [{"AttributeName": "other", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
        Tags=[{"Key": "k", "Value": "v"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )


@pytest.mark.slow
def test_tables_and_items_of_every_type_come_back_however_they_were_written(tmp_path: Path) -> None:
    def key(pk: str, n: str) -> dict[str, Any]:
        return {"pk": {"S": pk}, "n": {"N": n}}

    with serving(tmp_path) as (_, dynamodb):
        make_table(dynamodb)
        make_table(dynamodb, "dropped")
        dynamodb.put_item(TableName="dropped", Item=ITEM)
        dynamodb.delete_table(TableName="dropped")
        dynamodb.update_time_to_live(
            TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
        )
        dynamodb.put_item(TableName="things", Item=ITEM)
        dynamodb.put_item(TableName="things", Item={**key("ü", "1.5"), "written": {"S": "again, under an equal key"}})
        dynamodb.put_item(TableName="things", Item={**ITEM, "pk": {"S": "every type"}})
        puts = [{"PutRequest": {"Item": {**key("batch", str(n)), "other": {"S": "o"}}}} for n in range(3)]
        dynamodb.batch_write_item(RequestItems={"things": puts})
        dynamodb.batch_write_item(RequestItems={"things": [{"DeleteRequest": {"Key": key("batch", "0")}}]})
        dynamodb.update_item(
            TableName="things",
            Key=key("batch", "1"),
            UpdateExpression="SET counted = :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        dynamodb.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": "things", "Item": key("transacted", "1")}},
                {"Delete": {"TableName": "things", "Key": key("batch", "2")}},
            ]
        )
        dynamodb.execute_statement(Statement="INSERT INTO things VALUE {'pk': 'said', 'n': 7}")
        dynamodb.put_item(TableName="things", Item=key("gone", "1"))
        dynamodb.delete_item(TableName="things", Key=key("gone", "1"))
        with pytest.raises(ClientError, match="ConditionalCheckFailed"):
            dynamodb.put_item(
                TableName="things", Item=key("batch", "1"), ConditionExpression="attribute_not_exists(pk)"
            )
        described = without(dynamodb.describe_table(TableName="things"))
        items = dynamodb.scan(TableName="things")["Items"]
    with serving(tmp_path) as (_, dynamodb):
        assert dynamodb.list_tables()["TableNames"] == ["things"]
        assert without(dynamodb.describe_table(TableName="things")) == described
        ttl = dynamodb.describe_time_to_live(TableName="things")["TimeToLiveDescription"]
        assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
        arn = described["Table"]["TableArn"]
        assert dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]
        again = dynamodb.scan(TableName="things")["Items"]
        assert sorted(again, key=str) == sorted(items, key=str)
        assert len(again) == 5
        found = dynamodb.query(
            TableName="things",
            IndexName="by-other",
            KeyConditionExpression="other = :o",
            ExpressionAttributeValues={":o": {"S": "o"}},
        )
        assert [item["n"] for item in found["Items"]] == [{"N": "1"}]
        dynamodb.update_item(
            TableName="things",
            Key=key("batch", "1"),
            UpdateExpression="ADD counted :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
    with serving(tmp_path) as (_, dynamodb):
        kept = dynamodb.get_item(TableName="things", Key=key("batch", "1"))["Item"]
        assert kept["counted"] == {"N": "2"}


@pytest.mark.slow
def test_what_can_not_be_kept_is_refused_and_kept_with_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with serving(tmp_path, said) as (s3, dynamodb):
        make_table(dynamodb)
        s3.create_bucket(Bucket="box")
        with monkeypatch.context() as full:

            def refuse(*_: object) -> None:
                raise OSError(28, "No space left on device")

            full.setattr("emulator.storage.object_files.shutil.copyfileobj", refuse)
            full.setattr("emulator.storage.sqlite_store.SqliteStore.commit", refuse)
            with pytest.raises(ClientError, match=r"InternalError.*No space left on device"):
                s3.put_object(Bucket="box", Key="k", Body=b"1")
            with pytest.raises(ClientError, match=r"InternalServerError.*No space left on device"):
                dynamodb.put_item(TableName="things", Item=ITEM)
        s3.put_object(Bucket="box", Key="other", Body=b"2")
        dynamodb.put_item(TableName="things", Item={**ITEM, "pk": {"S": "next"}})
    assert len(said) == 2
    with serving(tmp_path) as (s3, dynamodb):
        assert s3.get_object(Bucket="box", Key="k")["Body"].read() == b"1"
        assert dynamodb.scan(TableName="things")["Count"] == 2


@pytest.mark.slow
def test_an_object_whose_file_was_cut_off_is_told_by_name_and_not_served(tmp_path: Path) -> None:
    with serving(tmp_path) as (s3, _):
        s3.create_bucket(Bucket="box")
        s3.put_object(Bucket="box", Key="cut", Body=b"12345")
        s3.put_object(Bucket="box", Key="whole", Body=b"whole")
    for file in (tmp_path / "objects").iterdir():
        if file.read_bytes() == b"12345":
            file.write_bytes(b"123")
    said: list[str] = []
    with serving(tmp_path, said) as (s3, _):
        assert s3.get_object(Bucket="box", Key="whole")["Body"].read() == b"whole"
        assert any("box/cut is damaged" in line and "has 3 bytes, not 5" in line for line in said), said
        with pytest.raises(ClientError):
            s3.get_object(Bucket="box", Key="cut")
        assert len(s3.list_objects_v2(Bucket="box")["Contents"]) == 2


@pytest.mark.slow
def test_a_record_that_can_not_be_understood_is_told_by_name_and_left_as_it_is(tmp_path: Path) -> None:
    with serving(tmp_path) as (s3, _):
        s3.create_bucket(Bucket="box")
    strange = b'[{"$": "a moto.s3.models:OfAnotherMoto", "is": {}}, []]'
    with sqlite3.connect(tmp_path / "aws.sqlite3") as database:
        database.execute("UPDATE record SET value = ? WHERE kind = 's3-bucket'", (strange,))
    said: list[str] = []
    with serving(tmp_path, said) as (s3, _), pytest.raises(ClientError, match=r"record of box .*OfAnotherMoto"):
        s3.list_buckets()
    assert any("OfAnotherMoto" in line for line in said)
    with sqlite3.connect(tmp_path / "aws.sqlite3") as database:
        assert database.execute("SELECT value FROM record WHERE kind = 's3-bucket'").fetchone() == (strange,)
