"""See conftest.py. What is asked of a whole application is asked where that is."""

from tests.web.test_stored_table import *  # noqa: F403

del TestService  # noqa: F821
