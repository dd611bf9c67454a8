"""See conftest.py."""

from tests.web.test_session_table import *  # noqa: F403
