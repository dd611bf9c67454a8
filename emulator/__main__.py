"""`python -m emulator`: the same as the `emulator` command."""

from __future__ import annotations

from emulator.cli import main

if __name__ == "__main__":
    main()
