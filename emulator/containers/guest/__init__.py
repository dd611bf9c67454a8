"""What runs on the container's side of the fence: in the warm process, in a container's init, in the container itself.

Nothing here may start a thread or an event loop, and nothing may be imported from the rest of the emulator but
`emulator.containers.compat` and the two modules of plain data that both sides share: every import here is memory and
start-up time of every container.
"""
