"""S3 and DynamoDB that throttle, fail or fall silent: in front of moto, in the words of AWS.

Codes and their HTTP statuses: "Error handling with DynamoDB" and "Error responses" of the S3 API reference.
"""

from __future__ import annotations

import io
import json
import re
import select
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from emulator.ids import new_id

if TYPE_CHECKING:
    import threading

    from emulator.faults.plans import AwsFault, Plans

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

THROTTLE = {"dynamodb": "ProvisionedThroughputExceededException", "s3": "SlowDown"}
SILENT = ("timeout", "lost")
"""No answer at all; or none to a request that was carried out."""

DYNAMODB_ERRORS = {
    "AccessDeniedException": (400, "Access denied."),
    "ConditionalCheckFailedException": (400, "The conditional request failed"),
    "InternalServerError": (500, "The server encountered an internal error trying to fulfill the request."),
    "LimitExceededException": (400, "Too many operations for a given subscriber."),
    "ProvisionedThroughputExceededException": (
        400,
        "You exceeded your maximum allowed provisioned throughput for a table or for one or more global secondary "
        "indexes.",
    ),
    "RequestLimitExceeded": (400, "Throughput exceeds the current throughput limit for your account."),
    "ResourceNotFoundException": (400, "Requested resource not found"),
    "ServiceUnavailable": (503, "The service is unavailable. Please try again later."),
    "ThrottlingException": (400, "Rate of requests exceeds the allowed throughput."),
    "TransactionConflictException": (400, "Transaction is ongoing for the item"),
}
S3_ERRORS = {
    "AccessDenied": (403, "Access Denied"),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "OperationAborted": (409, "A conflicting conditional operation is currently in progress against this resource."),
    "RequestTimeout": (400, "Your socket connection to the server was not read from or written to in time."),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SlowDown": (503, "Please reduce your request rate."),
}
ERRORS = {"dynamodb": DYNAMODB_ERRORS, "s3": S3_ERRORS}

# fmt: off
OPERATIONS = {
    "dynamodb": frozenset(
        {
            "BatchExecuteStatement", "BatchGetItem", "BatchWriteItem", "CreateTable", "DeleteItem", "DeleteTable",
            "DescribeTable", "DescribeTimeToLive", "ExecuteStatement", "ExecuteTransaction", "GetItem", "ListTables",
            "PutItem", "Query", "Scan", "TransactGetItems", "TransactWriteItems", "UpdateItem", "UpdateTable",
            "UpdateTimeToLive",
        }
    ),
    "s3": frozenset(
        {
            "AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateBucket", "CreateMultipartUpload",
            "DeleteBucket", "DeleteObject", "DeleteObjects", "GetObject", "HeadBucket", "HeadObject", "ListBuckets",
            "ListMultipartUploads", "ListObjects", "ListObjectsV2", "ListParts", "PutObject", "UploadPart",
            "UploadPartCopy",
        }
    ),
}
# fmt: on

_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/")
_NAMELESS = re.compile(r"^(list-type|prefix|delimiter|marker|max-keys|x-id|encoding-type|continuation-token|"
                       r"start-after|fetch-owner|versionId|response-.*|X-Amz-.*)$")  # fmt: skip
"""Parameters of S3 that choose no other operation."""


def with_faults(application: Wsgi, plans: Plans, closing: threading.Event) -> Wsgi:
    """Let requests be befallen by what is planned. Who waits for no answer waits until `closing` at most."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        service, operation = asked(environ)
        fault = plans.aws(service, operation)
        if fault is None:
            return application(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        if fault.code == "lost":
            list(application(environ, lambda *_: None))
            return _silence(environ["werkzeug.socket"])
        if fault.code == "timeout":
            _until_left(environ["werkzeug.socket"], closing)
            return _silence(environ["werkzeug.socket"])
        status, headers, body = refusal(fault, head=environ["REQUEST_METHOD"] == "HEAD")
        start_response(status, headers)
        return [body]

    return serve


def _until_left(connection: socket.socket, closing: threading.Event) -> None:
    while not closing.is_set():
        if select.select([connection], [], [], 0.05)[0]:
            return  # nothing more was to come: the client has closed


def _silence(connection: socket.socket) -> Iterable[bytes]:
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("no answer, as planned")


def refusal(fault: AwsFault, *, head: bool = False) -> tuple[str, list[tuple[str, str]], bytes]:
    """Status line, headers and body of an error, as the service writes it. One to a HEAD has no body."""
    status, message = ERRORS[fault.service][fault.code]
    request_id = new_id("rq")
    if fault.service == "dynamodb":
        kind = f"com.amazonaws.dynamodb.v20120810#{fault.code}"
        body = json.dumps({"__type": kind, "message": message}).encode()
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-RequestId", request_id)]
    else:
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{fault.code}</Code>'
            f"<Message>{escape(message)}</Message><RequestId>{request_id}</RequestId></Error>"
        ).encode()
        headers = [("Content-Type", "application/xml"), ("x-amz-request-id", request_id)]
    body = b"" if head else body
    return f"{status} {fault.code}", [*headers, ("Content-Length", str(len(body)))], body


def asked(environ: dict[str, Any]) -> tuple[str, str]:
    """Service and operation of a request; the operation is empty for one that has no name here."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target.startswith("DynamoDB_"):
        return "dynamodb", target.partition(".")[2]
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    if scope is not None and scope[1] != "s3":
        return scope[1], ""
    _, _, key = environ.get("PATH_INFO", "/").lstrip("/").partition("/")
    return "s3", s3_operation(
        environ["REQUEST_METHOD"],
        has_bucket=environ.get("PATH_INFO", "/") != "/",
        has_key=bool(key),
        parameters=set(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
        copies="HTTP_X_AMZ_COPY_SOURCE" in environ,
    )


def s3_operation(method: str, *, has_bucket: bool, has_key: bool, parameters: set[str], copies: bool) -> str:
    """The name of an S3 request, by path and query; empty for one of the many about a bucket's settings."""
    if not has_bucket:
        return "ListBuckets" if method == "GET" else ""
    chosen = {name for name in parameters if not _NAMELESS.match(name)}
    if has_key:
        if "uploadId" in chosen:
            part = "UploadPartCopy" if copies else "UploadPart"
            upload = {"PUT": part, "GET": "ListParts", "DELETE": "AbortMultipartUpload"}
            return {**upload, "POST": "CompleteMultipartUpload"}.get(method, "")
        if "uploads" in chosen:
            return "CreateMultipartUpload" if method == "POST" else ""
        plain = {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
        return {**plain, "PUT": "CopyObject" if copies else "PutObject"}.get(method, "") if not chosen else ""
    if "uploads" in chosen:
        return "ListMultipartUploads" if method == "GET" else ""
    if "delete" in chosen:
        return "DeleteObjects" if method == "POST" else ""
    listing = "ListObjectsV2" if "list-type" in parameters else "ListObjects"
    names = {"GET": listing, "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}
    return names.get(method, "") if not chosen else ""
