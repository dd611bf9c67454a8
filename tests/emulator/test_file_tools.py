"""What Sandboxes' `filesystem` runs, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RUN = "import sys; from emulator.containers.guest.files import main; sys.exit(main(sys.argv[1:]))"


def test_who_writes_to_where_nothing_can_be_written_can_send_all_of_it_and_is_told_why(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    request = json.dumps({"WriteFile": {"path": str(file / "below")}})
    with subprocess.Popen(
        [sys.executable, "-c", RUN, request], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(bytes(1 << 20))  # more than a pipe holds: fails where nobody reads
        process.stdin.close()
        assert json.loads(process.stderr.read())["error_kind"] == "AlreadyExists"
    assert process.returncode == 1
