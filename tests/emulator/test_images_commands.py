"""Which commands of an image install packages, and what they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.images.commands import Install, Shell, parse_run
from emulator.images.installers import Tools, as_uv, install_commands, uv_settings
from emulator.images.requirements import Undecidable, asked_for, unmet

if TYPE_CHECKING:
    from pathlib import Path


def parsed(command: str, *copied: str, **environment: str) -> Install | Shell | None:
    files = [(path, path, 0o644) for path in copied]
    return parse_run(command, environment=environment, workdir="/root", copied=files)


def install(command: str, *copied: str, **environment: str) -> Install:
    found = parsed(command, *copied, **environment)
    assert isinstance(found, Install)
    return found


@pytest.mark.parametrize(
    ("command", "tool", "words"),
    [
        ("python -m pip install 'a[x]>=1' b", "pip", ("a[x]>=1", "b")),
        ("pip3 install a --index-url=https://x/simple", "pip", ("a", "--index-url", "https://x/simple")),
        ("/.uv/uv pip install --python $(command -v python) a", "uv", ("--python", "python", "a")),
        ("/.uv/uv sync --project=/.uv --frozen", "sync", ("--project", "/.uv", "--frozen")),
        ('["pip", "install", "a"]', "pip", ("a",)),
        ("pip install ./wheels/a-1-py3-none-any.whl", "pip", ("/root/wheels/a-1-py3-none-any.whl",)),
    ],
)
def test_installs_are_understood(command: str, tool: str, words: tuple[str, ...]) -> None:
    assert (install(command).tool, install(command).words) == (tool, words)


@pytest.mark.parametrize(
    "command", ["pip install a>=2", "pip install a | tee log", "pip install $(cat names)", "echo pip install a", "make"]
)
def test_what_only_a_shell_understands_is_no_install(command: str) -> None:
    assert isinstance(parsed(command), Shell)


def test_upgrading_the_tools_of_the_base_image_is_nothing() -> None:
    assert parsed("pip install --upgrade pip wheel uv") is None


def test_an_install_holds_the_files_that_it_may_read_and_no_others() -> None:
    found = install("pip install -r /req/all.txt /w", "/req/all.txt", "/req/more.txt", "/w/setup.py", "/root/app.py")
    assert [path for path, _ in found.files] == ["/req/all.txt", "/req/more.txt", "/w/setup.py"]


def test_only_settings_of_the_installers_make_two_installs_differ() -> None:
    assert install("pip install a", OTHER="1") == install("pip install a")
    assert install("pip install a", PIP_INDEX_URL="x") != install("pip install a")


def names(command: str, **files: str) -> list[str]:
    def read(path: str) -> str:
        return files[path.rpartition("/")[2].removesuffix(".txt")]

    return [str(one) for one in asked_for(install(command), read)]


def test_requirement_files_are_read_with_all_that_they_lead_to() -> None:
    first = "a==1 \\\n  --hash=sha256:00\n# words\n--index-url https://x\n-r more.txt\n"
    assert names("pip install -r /first.txt", first=first, more="b>=2 ; python_version > '3'  # why") == [
        "a==1",
        'b>=2; python_version > "3"',
    ]


@pytest.mark.parametrize("word", ["/wheels/a.whl", "git+https://x/y.git", "a @ https://x/a.whl", "-e /src"])
def test_what_has_no_name_and_version_can_not_be_decided(word: str) -> None:
    with pytest.raises(Undecidable):
        names(f"pip install '{word}'" if word[0] != "-" else f"pip install {word}")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("pip install modal 'aiohttp>=3'", []),
        ("pip install 'aiohttp<2'", ["aiohttp<2"]),
        ("pip install no-such-package", ["no-such-package"]),
        ("pip install 'no-such-package ; python_version < \"3\"'", []),
        ("pip install 'moto[s3]'", []),
        ("pip install pip setuptools aiohttp", []),
    ],
)
def test_the_running_environment_meets_what_it_has(command: str, missing: list[str]) -> None:
    assert unmet(asked_for(install(command), lambda _: "")) == missing


def test_an_extra_is_met_by_what_it_brings() -> None:
    assert "email-validator" in str(unmet(asked_for(install("pip install 'fastapi[standard]'"), lambda _: "")))
    assert unmet(asked_for(install("pip install fastapi"), lambda _: "")) == []


def test_pips_words_are_put_in_uvs() -> None:
    assert as_uv(["a", "--pre", "--no-cache-dir", "--timeout", "5", "-f", "/w"]) == [
        "a",
        "--prerelease=allow",
        "-f",
        "/w",
    ]
    assert as_uv(["a", "--use-feature"]) is None


def installers(command: str, word: str, tools: Tools, folder: Path) -> list[str]:
    return [words[0].rpartition("/")[2] for words in install_commands(install(command), [word], tools, folder)]


def test_pip_does_what_uv_can_not(tmp_path: Path) -> None:
    both, pip = Tools(tmp_path / "uv", ("pip",)), Tools(None, ("pip",))
    assert installers("pip install a", "a", both, tmp_path) == ["uv", "pip"]
    assert installers("pip install a", "--odd", both, tmp_path) == ["pip"]
    assert installers("pip install a", "a", pip, tmp_path) == ["pip"]
    assert installers("uv pip install a", "a", both, tmp_path) == ["uv"]
    with pytest.raises(LookupError, match="needs uv"):
        installers("uv pip install a", "a", pip, tmp_path)


def test_uv_is_told_of_pips_configuration(tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = https://mirror/simple\nextra-index-url = https://a\n  https://b\n")
    machine = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(configuration), "PIP_FIND_LINKS": "/w /x"}
    told = uv_settings(machine)
    assert (told["UV_DEFAULT_INDEX"], told["UV_INDEX"]) == ("https://mirror/simple", "https://a https://b")
    assert told["UV_FIND_LINKS"] == "/w,/x"
    assert uv_settings({**machine, "UV_INDEX": "https://c"}) == {}


@pytest.mark.parametrize(
    ("command", "wanted", "hinted"),
    [("echo hi > /x", False, True), ("echo hi > /x", True, False), ("apt-get install -y cowsay", False, False)],
)
def test_what_is_not_run_says_so_with_the_option_that_would_have_run_it(
    command: str, wanted: bool, hinted: bool
) -> None:
    said = Shell(command).why_not_run(wanted=wanted)
    assert command in said
    assert ("--run-commands" in said) is hinted
