"""See conftest.py."""

from tests.infra.test_table import *  # noqa: F403

SINGLE_CALLS = True
