"""What a container finds on its disk and in its environment: what it was given, and nothing of the deployer's."""

# ruff: noqa: ASYNC240 (conditions of other processes have no event, and these folders are small)
from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from emulator.containers import choose_runtime
from emulator.containers.base import ContainerStartError, MountedFile
from emulator.containers.isolation import Isolation, detect
from emulator.containers.prepare import LARGE_BYTES
from tests.emulator.containers_kit import Output, machine, spec_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.containers.runtime import SupervisedRuntime

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TELL = "import json, os, sys\ndef tell(value):\n    print('told', json.dumps(value))\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[SupervisedRuntime]:
    """Forks with namespaces, by this machine's right or an ordinary user's; or subprocesses without."""
    isolation = Isolation(why="the test says so")
    if request.param != "shared":
        isolation = await detect(request.getfixturevalue("tmp_path_factory").mktemp("probe"))
        if not isolation.how:
            pytest.skip(isolation.describe())
    if request.param == "user":
        isolation = Isolation("user", isolation.private_network)
    kind: Any = "zygote" if isolation.how else "process"
    runtime: Any = choose_runtime(kind, entry="user_code:go", machine=machine(), isolation=isolation)
    yield runtime
    await runtime.close()


every = pytest.mark.parametrize("runtime", ["as found", "user", "shared"], indirect=True, scope="module")
isolated = pytest.mark.parametrize("runtime", ["as found", "user"], indirect=True, scope="module")
shared = pytest.mark.parametrize("runtime", ["shared"], indirect=True, scope="module")


async def told(runtime: SupervisedRuntime, folder: Path, code: str, **options: Any) -> Any:
    """What the container's `go` tells by `tell(value)`."""
    output = Output()
    container = await runtime.start(spec_of(folder, TELL + code, **options), output.on_output)
    exited = await container.wait()
    assert exited.code == 0, output.text
    return json.loads(await output.line("told"))


@every
async def test_nothing_of_the_developers_environment_reaches_it(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = "def go():\n    tell(dict(os.environ))"
    given = {"FLAVOUR": "lime", "MODAL_TOKEN_ID": "baked-in", "PYTHONPATH": "/opt/more"}
    seen = await told(runtime, tmp_path, code, environment=given)
    assert seen["FLAVOUR"] == "lime"
    assert not {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "HF_TOKEN", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"} & set(seen)
    assert "MODAL_PROFILE" not in seen
    assert seen["HOME"] != "/home/developer"
    assert seen["PYTHONPATH"].split(":")[0] == "/opt/more"
    assert "/home/developer/project" not in seen["PYTHONPATH"]
    assert (seen["MODAL_IS_REMOTE"], seen["MODAL_TASK_ID"], seen["MODAL_IMAGE_ID"]) == ("1", "ta-1", "im-1")
    assert seen["MODAL_SERVER_URL"].startswith("unix://localhost/")


@every
async def test_it_imports_its_own_source_and_installed_packages_but_not_the_project(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    code = """
import importlib.util, subprocess
def found(name):
    return importlib.util.find_spec(name) is not None
def go():
    tell([found("helper"), found("aiohttp"), found("infra"), found("emulator"), sys.path])
"""
    helper = tmp_path / "helper_source.py"
    helper.write_text("")
    own, installed, project, emulator, path = await told(
        runtime, tmp_path, code, files=[MountedFile("/root/helper.py", helper)]
    )
    assert (own, installed, project, emulator) == (True, True, False, False)
    assert str(Path(__file__).resolve().parents[2]) not in path


@every
async def test_what_it_writes_to_its_files_does_not_alter_the_deployers(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    source = tmp_path / "deployers.txt"
    source.write_text("original")
    source.chmod(0o444)
    code = "def go():\n    open('data.txt', 'a').write(' and more'); tell(open('data.txt').read())"
    files = [MountedFile("/root/data.txt", source, 0o444)]
    assert await told(runtime, tmp_path, code, files=files) == "original and more"
    assert source.read_text() == "original"
    assert await told(runtime, tmp_path, code, files=files) == "original and more"


@isolated
async def test_a_large_file_is_shown_to_it_and_not_copied_and_cannot_be_written(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.truncate(LARGE_BYTES)
    code = """
def go():
    places = ["/models/m/weights", "/usr/share/weights"]
    for place in places:
        try:
            open(place, "ab")
        except OSError as error:
            tell([[os.stat(at).st_ino for at in places], type(error).__name__])
            return
"""
    files = [MountedFile(path, weights) for path in ("/models/m/weights", "/usr/share/weights")]
    inodes, refusal = await told(runtime, tmp_path, code, files=files)
    assert inodes == [weights.stat().st_ino] * 2
    assert refusal == "OSError"
    assert not Path("/usr/share/weights").exists()


@every
async def test_a_relative_path_does_not_find_the_deployers_files(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = "def go():\n    tell([sorted(os.listdir('.')), os.path.exists('pyproject.toml')])"
    names, project = await told(runtime, tmp_path, code)
    assert "user_code.py" in names
    assert not project


@isolated
async def test_everything_lies_at_its_real_path(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    asset = tmp_path / "asset"
    asset.write_text("text")
    code = """
def go():
    tell([os.getcwd(), __file__, os.path.expanduser("~"), open("/assets/deep/a.txt").read(), os.getuid()])
"""
    files = [MountedFile("/assets/deep/a.txt", asset)]
    seen = await told(runtime, tmp_path, code, files=files)
    assert seen == ["/root", "/root/user_code.py", "/root", "text", 0]


@isolated
async def test_a_file_that_only_the_deployers_disk_has_is_missing(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    secret = tmp_path / "only-here.txt"
    secret.write_text("x")
    here = Path(__file__).resolve()
    paths = [
        str(secret),
        str(here),
        str(here.parents[2] / "pyproject.toml"),
        str(Path.home() / ".bashrc"),
        "/home/x",
    ]
    assert await told(runtime, tmp_path, f"def go():\n    tell([os.path.exists(p) for p in {paths}])") == [False] * 5


@isolated
async def test_a_subprocess_of_the_same_interpreter_works_and_sees_as_little(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    code = f"""
import subprocess
def go():
    command = [sys.executable, "-c", "import user_code, aiohttp, ssl, os; print(os.path.exists('{Path.cwd()}/tests'))"]
    tell(subprocess.run(command, capture_output=True, text=True).stdout)
"""
    assert await told(runtime, tmp_path, code) == "False\n"


@every
async def test_another_working_folder_is_used_and_root_stays_importable(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    code = "def go():\n    tell([os.getcwd(), sys.path[0] == os.getcwd()])"
    folder, first = await told(runtime, tmp_path, code, workdir="/srv/app")
    assert folder.endswith("/srv/app")
    assert first


@isolated
async def test_a_volume_is_the_same_folder_for_every_container(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    code = "def go():\n    open('/vol/models/n', 'a').write('x'); tell(open('/vol/models/n').read())"
    for expected in ("x", "xx"):
        assert await told(runtime, tmp_path, code, volumes={"/vol/models": volume}) == expected
    assert (volume / "n").read_text() == "xx"


READ_ONLY = """
def go():
    for path in PLACES:
        try:
            open(path + "/new", "w").close()
        except OSError as error:
            tell([os.path.basename(path), os.listdir(path), error.errno])
"""


@isolated
async def test_a_read_only_volume_is_read_and_not_written(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    volumes = {f"/vol/{name}": tmp_path / name for name in ("kept", "written")}
    for folder in volumes.values():
        folder.mkdir()
    (tmp_path / "kept" / "old").touch()
    code = READ_ONLY.replace("PLACES", str(list(volumes)))
    seen = await told(runtime, tmp_path, code, volumes=volumes, read_only=["/vol/kept"])
    assert seen == ["kept", ["old"], errno.EROFS]
    assert (tmp_path / "written" / "new").exists()


@shared
async def test_without_a_file_system_of_its_own_a_read_only_volume_is_told_to_be_writable(
    runtime: SupervisedRuntime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume, place = tmp_path / "volume", str(tmp_path / "readable")
    volume.mkdir()
    await told(runtime, tmp_path, "def go():\n    tell(0)", volumes={place: volume}, read_only=[place])
    assert f"the volume at {place} is read-only on Modal" in caplog.text


@isolated
async def test_a_file_and_a_volume_in_a_system_folder_leave_the_machines_alone(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    volume, config = tmp_path / "volume", tmp_path / "config"
    volume.mkdir()
    config.write_text("mine")
    code = """
def go():
    open("/usr/share/emulator-volume/f", "w").write("kept")
    tell([open("/etc/emulator-test.conf").read(), os.path.exists("/etc/passwd")])
"""
    seen = await told(
        runtime,
        tmp_path,
        code,
        files=[MountedFile("/etc/emulator-test.conf", config)],
        volumes={"/usr/share/emulator-volume": volume},
    )
    assert seen == ["mine", True]
    assert (volume / "f").read_text() == "kept"
    assert not Path("/etc/emulator-test.conf").exists()
    assert not Path("/usr/share/emulator-volume").exists()


@isolated
async def test_the_machines_system_folders_cannot_be_written(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = f"""
def go():
    refused = []
    for path in ("/etc/emulator-x", "/usr/emulator-x", {str(Path(sys.prefix) / "lib" / "emulator-x")!r}):
        try:
            open(path, "w")
        except OSError as error:
            refused.append(error.errno)
    tell(refused)
"""
    assert len(await told(runtime, tmp_path, code)) == 3


@isolated
async def test_temporary_files_and_shared_memory_are_its_own(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = """
import tempfile
def go():
    seen = [os.listdir("/tmp"), os.listdir("/dev/shm")]
    open("/tmp/mine", "w"); open("/dev/shm/mine", "w"); tell([*seen, tempfile.gettempdir()])
"""
    # The environment whose packages every container sees may itself lie below /tmp.
    shown = {
        part
        for prefix in (sys.prefix, sys.base_prefix)
        for part in Path(prefix).parts[2:3]
        if prefix.startswith("/tmp/")
    }
    for _ in range(2):
        temporary, shared_memory, place = await told(runtime, tmp_path, code)
        assert set(temporary) <= shown
        assert (shared_memory, place) == ([], "/tmp")
    assert not Path("/dev/shm/mine").exists()


@isolated
async def test_it_sees_its_own_processes_only(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = "def go():\n    tell([n for n in os.listdir('/proc') if n.isdigit()] + [os.getpid()])"
    assert await told(runtime, tmp_path, code) == ["1", "2", 2]


@shared
async def test_without_a_file_system_of_its_own_a_volume_is_linked_where_nothing_is_in_the_way(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    volume, place = tmp_path / "volume", tmp_path / "mounted"
    volume.mkdir()
    code = f"def go():\n    open('{place}/f', 'w').write('x'); tell(0)"
    await told(runtime, tmp_path, code, volumes={str(place): volume})
    assert (volume / "f").read_text() == "x"
    (tmp_path / "taken").mkdir()
    with pytest.raises(ContainerStartError, match=f"cannot be shown at {tmp_path}/taken"):
        await told(runtime, tmp_path, code, volumes={str(tmp_path / "taken"): volume})


@every
async def test_a_path_that_leads_out_of_the_container_is_refused(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    for path in ("/root/../../etc/passwd", "relative"):
        with pytest.raises(ContainerStartError, match="must be absolute"):
            await told(runtime, tmp_path, "", files=[MountedFile(path, tmp_path)])
