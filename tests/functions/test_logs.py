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
