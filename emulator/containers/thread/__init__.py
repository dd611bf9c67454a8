"""Containers as threads of the process that runs the emulator: for tests, whose breakpoints and patches reach them.

A container is an `Identity`, which its code carries in a context variable: through the threads and tasks that it
starts, and into the client's own event loop. What a process has for itself (environment, output, signals, children) is
taken from the identity, by functions that stand in the place of the process's; everybody else sees what was there.

    identity.py       which container the current code belongs to, and what that container has
    interrupts.py     waits that can be ended from outside, and exceptions raised in other threads
    loops.py          the event loops of containers
    signals.py, environment.py, streams.py, children.py, threads.py
                      one thing each that a process has for itself, as a container sees it
    modules.py        whose modules a container runs: the test's own, or those that were added to its image
    installation.py   puts all of it in place with the first, takes it away after the last
    container.py, runtime.py
                      the interface of `containers.base`
"""
