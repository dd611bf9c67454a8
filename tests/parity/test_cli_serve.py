"""`modal serve`: addresses with `-dev`, reloaded when a file changes, gone with Ctrl-C."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.modal_cli import Command
    from tests.parity.kit import Target

SOURCE = """
import modal

app = modal.App("served")

@app.function()
@modal.fastapi_endpoint()
def page():
    print("asked for the page")
    return "first"
"""
SOON = 30.0


def answer(url: str) -> str:
    """The body, or what is in its place."""
    try:
        with urllib.request.urlopen(url, timeout=SOON) as response:
            body: bytes = response.read()
            return body.decode()
    except (urllib.error.URLError, ConnectionError, HTTPException) as error:  # its container may be ended meanwhile
        return f"{type(error).__name__}"


def until_answered(url: str, body: str) -> None:
    deadline = time.monotonic() + SOON
    while (found := answer(url)) != body:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def address(serving: Command) -> str:
    """The first that it has written."""
    words = serving.wait_for("Watching").split()
    return next(word for word in words if word.startswith("http") and "/apps/" not in word)


def served(target: Target, folder: Path, *options: str, env: dict[str, str] | None = None) -> Command:
    (folder / "served.py").write_text(SOURCE)
    return target.start("serve", *options, "served.py", cwd=folder, env=env)


@pytest.mark.slow
@pytest.mark.row("CLI", "modal serve")
def test_serve_reloads_when_a_file_changes_and_ends_with_ctrl_c(target: Target, tmp_path: Path) -> None:
    name = f"served-{target.session}"
    with served(target, tmp_path, "--name", name) as serving:
        url = address(serving)
        assert answer(url) == '"first"'
        serving.wait_for("asked for the page")
        (tmp_path / "served.py").write_text(SOURCE.replace('"first"', '"second"'))
        until_answered(url, '"second"')
        assert url in serving.output
        assert "Terminating running containers" in serving.output
        (tmp_path / "served.py").write_text("this is no Python")
        serving.wait_for("SyntaxError")
        assert answer(url) == '"second"', "a file that cannot be read changes nothing"
        (tmp_path / "served.py").write_text(SOURCE)
        until_answered(url, '"first"')
        serving.interrupt()
        assert "App aborted" in serving.output
        assert "Timed out" not in serving.output
    assert answer(url) not in ('"first"', '"second"')
    listed = json.loads(target.cli("app", "list", "--json").stdout)
    assert [app["state"] for app in listed if app["description"] == name] == ["stopped"]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal serve: -dev labels")
@pytest.mark.emulator_only("labels are in the addresses of real Modal, and in the emulator's routes")
@pytest.mark.parametrize(("suffix", "label"), [("", "served-page-dev"), ("mine", "served-page-mine")])
def test_the_address_of_a_served_function_has_dev_or_the_suffix_of_its_own(
    target: Target, tmp_path: Path, suffix: str, label: str
) -> None:
    with served(target, tmp_path, env={"MODAL_DEV_SUFFIX": suffix} if suffix else None) as serving:
        address(serving)
        shared = target.emulator.core.ingress.url
        asked = urllib.request.Request(shared, headers={"Host": f"{label}.modal.localhost"})
        with urllib.request.urlopen(asked, timeout=SOON) as response:
            assert response.read() == b'"first"'


@pytest.mark.slow
@pytest.mark.row("CLI", "modal serve")
def test_serve_ends_by_itself_after_its_timeout(target: Target, tmp_path: Path) -> None:
    with served(target, tmp_path, "--timeout", "2") as serving:
        url = address(serving)
        assert serving.wait(within=SOON) == 0
    assert answer(url) != '"first"'
