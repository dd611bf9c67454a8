"""See conftest.py."""

from tests.web.test_shared_limits import *  # noqa: F403
