"""See conftest.py."""

from tests.web.test_batch_store import *  # noqa: F403
