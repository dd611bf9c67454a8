"""See conftest.py."""

from tests.web.test_session_store import *  # noqa: F403
