"""What the service's table and bucket are: as CloudFormation, and the least IAM policy that they serve. Pure.

One table. `pk` and `sk` name an item by its noun and owner; the index `recent` has one `pk`'s items by when they were
last used (local, so that who lists them sees what was just written); `due` has items of all owners by when something is
to be done with them. DynamoDB removes an item after its `ttl`, well after a job should have.
"""

from __future__ import annotations

from typing import Any

from infra.table import DUE, RECENT
from infra.trust import Trust, resources

TTL = "ttl"
ORPHAN_DAYS = 2
"""After which parts of uploads that nobody finished are removed."""

ARCHIVES = "archives/"
"""How the names of objects begin that are kept for people, and for so many days: no item names them."""

ARCHIVE_DAYS = 365

LISTED = ("expires_at", "turn", "leased_until", "title", "model", "messages", "created_at")
"""What the index `recent` tells of an item beside its keys."""

Properties = dict[str, Any]


def table(name: str) -> Properties:
    """The properties of an `AWS::DynamoDB::Table`."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
            {"AttributeName": "recent", "AttributeType": "S"},
            {"AttributeName": "due", "AttributeType": "S"},
            {"AttributeName": "due_at", "AttributeType": "N"},
        ],
        "KeySchema": _keys("pk", "sk"),
        "LocalSecondaryIndexes": [
            {
                "IndexName": RECENT,
                "KeySchema": _keys("pk", "recent"),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(LISTED)},
            }
        ],
        "GlobalSecondaryIndexes": [
            {"IndexName": DUE, "KeySchema": _keys("due", "due_at"), "Projection": {"ProjectionType": "KEYS_ONLY"}}
        ],
        "TimeToLiveSpecification": {"AttributeName": TTL, "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }


def bucket(name: str, *, archive_days: int = ARCHIVE_DAYS) -> Properties:
    """The properties of an `AWS::S3::Bucket`. `archive_days`: how long what lies under ARCHIVES is kept."""
    return {
        "BucketName": name,
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True, "BlockPublicPolicy": True, "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "unfinished-uploads", "Status": "Enabled", "Prefix": "",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ORPHAN_DAYS},
                },
                {
                    "Id": "archives", "Status": "Enabled", "Prefix": ARCHIVES,
                    "ExpirationInDays": max(archive_days, 1),
                },
            ]
        },
    }  # fmt: skip


def template(
    *, table_name: str, bucket_name: str, archive_days: int = ARCHIVE_DAYS, trust: Trust | None = None,
    provider_arn: str | None = None,
) -> Properties:  # fmt: skip
    """A CloudFormation template that makes both, and keeps them when the stack is deleted. `trust`: and a role, for
    those containers; `provider_arn` as `infra.trust` says."""
    allowed = policy(table_name=table_name, bucket_name=bucket_name)
    role = {} if trust is None else resources(trust, policy=allowed, provider_arn=provider_arn)
    output = {"Outputs": {"RoleArn": {"Description": "state.role_arn", "Value": {"Fn::GetAtt": ["Role", "Arn"]}}}}
    kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "State of the LLM inference service",
        "Resources": {
            "Table": {"Type": "AWS::DynamoDB::Table", **kept, "Properties": table(table_name)},
            "Bucket": {"Type": "AWS::S3::Bucket", **kept, "Properties": bucket(bucket_name, archive_days=archive_days)},
            **role,
        },
        **(output if role else {}),
    }


def policy(*, table_name: str, bucket_name: str) -> Properties:
    """What the service's containers must be allowed. Not provisioning: that is done by who deploys."""
    arn = f"arn:aws:dynamodb:*:*:table/{table_name}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Items",
                "Effect": "Allow",
                "Action": [
                    "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem",
                    "dynamodb:Query",
                ],
                "Resource": [arn],
            },
            {
                "Sid": "Indexes",
                "Effect": "Allow",
                "Action": ["dynamodb:Query"],
                "Resource": [f"{arn}/index/{RECENT}", f"{arn}/index/{DUE}"],
            },
            {
                "Sid": "Names",  # without it S3 says of an object that is not there that it is forbidden
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{bucket_name}"],
            },
            {
                "Sid": "Objects",
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": [f"arn:aws:s3:::{bucket_name}/*"],
            },
        ],
    }  # fmt: skip


def _keys(partition: str, sort: str) -> list[Properties]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
