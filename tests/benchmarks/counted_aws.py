"""The emulator's DynamoDB and S3 as a process of its own, which counts what it is asked.

`GET /counted` answers how often each operation was called.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from emulator import aws
from emulator.aws import Aws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.aws import Wsgi

PATH = "/counted"


def counting(application: Wsgi) -> Wsgi:
    counts: Counter[str] = Counter()

    def counted(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH:
            start("200 OK", [("content-type", "application/json")])
            return [json.dumps(counts).encode()]
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        counts[target.rpartition(".")[2] or f"s3 {environ['REQUEST_METHOD']}"] += 1
        answer: Iterable[bytes] = application(environ, start)
        return answer

    return counted


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.counted_aws")
    parser.add_argument("--port", type=int, required=True)
    local_only: Any = aws.local_only
    aws.local_only = lambda application: local_only(counting(application))
    with Aws(port=parser.parse_args().port, preload=True):
        threading.Event().wait()


if __name__ == "__main__":
    main()
