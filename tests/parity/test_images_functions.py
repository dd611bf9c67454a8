"""A function that runs while an image is built, and what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parity.kit import Target


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "`Image.run_function`")
def test_what_a_function_writes_is_in_the_image_and_it_runs_once(target: Target) -> None:
    first = target.cli("run", "run_function.py")
    assert "downloading weights" in first.stdout, first.stdout + first.stderr
    assert "['tt', 'tt', 'the app', 'it', 'none']" in first.stdout
    second = target.cli("run", "run_function.py")
    assert "downloading" not in second.stdout
    assert "['tt', 'tt', 'the app', 'it', 'none']" in second.stdout
    forced = target.cli("run", "run_function.py", env={"MODAL_FORCE_BUILD": "1"})
    assert "downloading" in forced.stdout
    assert "['tt', 'tt', 'the app', 'it', 'none']" in forced.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "`Image.run_function`")
@pytest.mark.row("Images", "a build that fails")
def test_what_a_function_raises_fails_the_build(target: Target) -> None:
    failed = target.cli("run", "run_function.py", env={"FAILS": "1"})
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    assert "about to fail" in said
    assert "failed with the exception:" in said
    assert "no such model" in said
