"""See conftest.py."""

from tests.web.test_session_archive import *  # noqa: F403
