"""Containers log at the configured level, each line once."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import logging, sys
from functions.logs import configure_logging
from infra.settings import Server
client = logging.getLogger("modal-client")
client.addHandler(logging.StreamHandler(sys.stderr))
configure_logging(Server(log_level=sys.argv[1]))
configure_logging(Server(log_level=sys.argv[1]))
logging.getLogger("functions.x").info("ours")
client.warning("theirs")
"""


@pytest.mark.parametrize(("level", "lines"), [("info", ["INFO functions.x: ours", "theirs"]), ("warn", ["theirs"])])
def test_the_level_is_obeyed_and_nothing_is_said_twice(level: str, lines: list[str]) -> None:
    command = [sys.executable, "-c", CODE, level]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines() == lines


CUT = """
import logging, sys
from functions.logs import configure_logging
from infra.settings import Server
from web.errors import ReaderStalled
configure_logging(Server())
configure_logging(Server())
for error in (ReaderStalled(40), KeyError("a mistake")):
    try:
        raise error
    except Exception:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
"""


def test_a_connection_that_is_cut_is_one_line_and_a_mistake_a_traceback() -> None:
    told = subprocess.run([sys.executable, "-c", CUT], capture_output=True, text=True, check=True).stderr.splitlines()
    assert told[0].startswith("WARNING uvicorn.error: a connection was cut: ")
    assert told[1:3] == ["ERROR uvicorn.error: Exception in ASGI application", "Traceback (most recent call last):"]
    assert told[-1] == "KeyError: 'a mistake'"
