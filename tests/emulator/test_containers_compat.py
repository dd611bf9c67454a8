"""The one module that knows the client's private names, and the pure decisions about what a container is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emulator.containers.base import ContainerSpec
from emulator.containers.compat import IncompatibleClientError, judge_version, parse_version
from emulator.containers.environment import container_environment, inherited
from emulator.containers.guest.paths import installed_only
from emulator.containers.rootplan import Survey, environment_parts, links_on_the_way, place_of, plan_root, uncovered
from tests.emulator.containers_kit import machine


@pytest.mark.parametrize(("text", "numbers"), [("1.6.4", (1, 6, 4)), ("1.7.0.dev3", (1, 7, 0)), ("2", (2,))])
def test_a_version_is_its_leading_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


def test_a_tested_client_is_taken_in_silence() -> None:
    assert judge_version((1, 6, 4)) is None
    assert judge_version((1, 5, 5)) is None
    assert judge_version((1, 6, 99)) is None


@pytest.mark.parametrize("found", [(1, 5, 4), (1, 7, 0), (1, 8, 1), (2, 0)])
def test_a_client_outside_the_tested_range_is_warned_about_with_the_range(found: tuple[int, ...]) -> None:
    assert ">=1.5.5, <1.7" in str(judge_version(found))


def test_a_client_that_is_too_old_is_refused_with_what_to_install() -> None:
    with pytest.raises(IncompatibleClientError, match=r"modal 1\.4\.9 is too old.*modal>=1\.5\.5,<1\.7"):
        judge_version((1, 4, 9))


def test_preimporting_starts_no_thread_so_that_fork_is_safe() -> None:
    code = "import os; from emulator.containers import compat; compat.preimport(); print(os.listdir('/proc/self/task'))"
    if sys.platform != "linux":
        pytest.skip("/proc is Linux's")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count(",") == 0, done.stdout


def test_the_machine_passes_on_its_certificates_and_language_but_no_credentials() -> None:
    kept = inherited(machine(SSL_CERT_FILE="/etc/my.pem", LC_ALL="de_DE.UTF-8", GITHUB_TOKEN="x", VIRTUAL_ENV="/v"))
    assert set(kept) == {"PATH", "SSL_CERT_FILE", "LC_ALL"}
    assert kept["PATH"].split(":")[0] == str(Path(sys.executable).parent)


@pytest.mark.parametrize("private", [True, False])
def test_the_machines_proxies_serve_a_container_on_its_network_and_no_other(private: bool) -> None:
    spec = ContainerSpec("ta-1", b"", Path("/c"), {"MODAL_TASK_ID": "forged", "PYTHONPATH": "/a:/root"}, "im-1")
    environment = container_environment(
        spec,
        machine(https_proxy="http://proxy:3128"),
        home="/root",
        temporary=None,
        control_socket="/c",
        arguments="/a",
        source_root="/root",
        private_network=private,
    )
    assert ("https_proxy" in environment) is not private
    assert ("127.0.0.1" in environment.get("NO_PROXY", "")) is private
    assert environment["MODAL_TASK_ID"] == "ta-1"
    assert environment["PYTHONPATH"] == "/a:/root"


def test_editable_installs_and_the_current_folder_leave_the_import_path() -> None:
    roots = [Path("/usr/lib/python3.11"), Path("/venv/lib/python3.11/site-packages")]
    path = ["", "/home/me/project/src", "/usr/lib/python311.zip", "/usr/lib/python3.11/lib-dynload", str(roots[1])]
    assert installed_only(path, roots) == path[2:]


def test_an_environment_that_is_the_project_itself_is_shown_in_parts(tmp_path: Path) -> None:
    for part in ("bin", "lib"):
        (tmp_path / part).mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    assert environment_parts(tmp_path) == [tmp_path]
    (tmp_path / "app.py").touch()
    parts = environment_parts(tmp_path)
    assert tmp_path / "lib" in parts
    assert tmp_path not in parts


def test_an_interpreter_that_is_a_link_to_a_link_is_reached_through_every_one_of_them(tmp_path: Path) -> None:
    real, shims, venv = (tmp_path / name for name in ("real", "shims", "venv"))
    for folder in (real, shims, venv):
        folder.mkdir()
    (real / "python3.11").touch()
    (tmp_path / "opt").symlink_to(shims)
    (shims / "python3").symlink_to("../real/python3.11")
    (venv / "python").symlink_to(tmp_path / "opt/python3")
    assert links_on_the_way(venv / "python") == [venv / "python", tmp_path / "opt", shims / "python3"]
    (venv / "loop").symlink_to("loop")
    assert set(links_on_the_way(venv / "loop")) == {venv / "loop"}


def test_nothing_is_shown_twice() -> None:
    paths = [Path("/usr/lib/x"), Path("/venv"), Path("/venv/lib"), Path("/usrlocal")]
    assert uncovered(paths, [Path("/usr")]) == [Path("/venv"), Path("/usrlocal")]


def test_only_a_system_folder_that_gets_something_of_the_containers_is_an_overlay() -> None:
    seen = Survey(("/usr", "/etc"), ("/venv",))
    folder = Path("/run/ta-1")
    volumes = {"/vol": Path("/v"), "/kept": Path("/k")}
    plan = plan_root(
        seen, folder=folder, placed=["/etc/a.conf", "/root/x"], volumes=volumes, read_only=["/kept"], sockets={}
    )
    assert plan.overlays == [("/etc", "/etc", "/run/ta-1/over/etc/upper", "/run/ta-1/over/etc/work")]
    assert plan.binds == [
        ("/usr", "/usr", False),
        ("/venv", "/venv", False),
        ("/v", "/vol", True),
        ("/k", "/kept", False),
    ]
    assert place_of("/etc/a.conf", seen, folder=folder, root=Path("/r")) == Path("/run/ta-1/over/etc/upper/a.conf")
    assert place_of("/etcetera", seen, folder=folder, root=Path("/r")) == Path("/r/etcetera")
