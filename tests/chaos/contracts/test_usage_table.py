"""See conftest.py."""

from tests.infra.test_usage_table import *  # noqa: F403
