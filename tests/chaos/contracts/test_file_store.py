"""See conftest.py."""

from tests.web.test_file_store import *  # noqa: F403
