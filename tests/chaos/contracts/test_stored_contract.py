"""See conftest.py."""

from tests.web.test_stored_contract import *  # noqa: F403
