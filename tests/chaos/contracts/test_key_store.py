"""See conftest.py."""

from tests.infra.test_key_store import *  # noqa: F403
