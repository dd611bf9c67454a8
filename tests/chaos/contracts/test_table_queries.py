"""See conftest.py."""

from tests.infra.test_table_queries import *  # noqa: F403

SINGLE_CALLS = True
