"""The collector of a process that serves: it spares what stays, and still finds what goes."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from functions.garbage import NEW_OBJECTS, spare_the_application

spare_the_application()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold()[0] == NEW_OBJECTS

class Node: ...

node = Node()
node.itself, gone = node, weakref.ref(node)
del node
assert gone() is not None
kept = [[] for _ in range(NEW_OBJECTS + 1)]
assert gone() is None, "a cycle was not found"
"""


def test_what_is_there_is_frozen_and_new_cycles_are_found() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
