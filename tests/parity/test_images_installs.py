"""Images install Python packages for real, each once, and a container has what its image has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parity.kit import DeployedApp, Target

REQUIREMENTS = "# what it needs\ntiny-one==1.0 \\\n  ; python_version > '3'\ntiny-three\n"
"""As pip takes it, and uv does not."""
PYPROJECT = """
[project]
name = "sample"
version = "0"
requires-python = ">=3.11"
dependencies = ["tiny-one"]
[project.optional-dependencies]
more = ["tiny-two"]
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "tiny-one", "1.0", command="tiny")
    make_wheel(folder, "tiny-two", "3.0", requires=["tiny-three"])
    make_wheel(folder, "tiny-three", "0.3")
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


@pytest.fixture(scope="session")
def installs(target: Target, wheels: Path) -> DeployedApp:
    return target.deploy("installs.py", env={"WHEELS": str(wheels)})


@pytest.fixture(scope="session")
def projects(target: Target, wheels: Path) -> DeployedApp:
    return target.deploy("projects.py", env={"WHEELS": str(wheels)})


@pytest.mark.slow
@pytest.mark.row("Images", "`Image.pip_install`")
@pytest.mark.row("Images", "`Image.imports`")
@pytest.mark.row("Images", "`Image.add_local_file`, `add_local_dir`, `add_local_python_source`")
@pytest.mark.row("Images", "what other images have")
def test_a_container_has_the_packages_of_its_image_and_no_others(installs: DeployedApp) -> None:
    assert installs.function("surroundings").remote() == ("1.0", ["tiny-one"], [])


@pytest.mark.row("Images", "`Image.uv_pip_install`")
@pytest.mark.row("Images", "layers")
def test_a_layer_is_built_on_the_one_below(installs: DeployedApp) -> None:
    assert installs.function("of_both").remote() == (["tiny-one", "tiny-three", "tiny-two"], "the installs")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "commands of packages")
def test_programs_of_the_container_have_the_images_packages(installs: DeployedApp) -> None:
    assert installs.function("commands").remote() == ["1.0"] * 3


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "`Image.pip_install_from_requirements`")
def test_the_requirements_of_a_file_are_installed(projects: DeployedApp) -> None:
    assert projects.function("of_requirements").remote() == ["tiny-one", "tiny-three"]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "`Image.pip_install_from_pyproject`")
def test_a_projects_dependencies_are_installed(projects: DeployedApp) -> None:
    assert projects.function("of_project").remote() == ["tiny-one", "tiny-three", "tiny-two"]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "`Image.uv_sync`")
def test_a_project_of_uvs_has_an_environment_of_its_own(projects: DeployedApp) -> None:
    assert projects.function("synced").remote() == ["tiny-one"]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "`Image.dockerfile_commands`")
@pytest.mark.row("Images", "`Image.env`, `workdir`")
def test_dockerfile_commands_install_and_set(projects: DeployedApp) -> None:
    assert projects.function("commanded").remote() == (["tiny-one", "tiny-three"], "hello 1.0", "/srv")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "what is built is kept")
@pytest.mark.row("Images", "`force_build`")
@pytest.mark.row("Images", "`Image.build`, `from_id`")
def test_what_was_built_is_not_built_again_unless_forced(installs: DeployedApp, target: Target, wheels: Path) -> None:
    again = target.cli("run", "installs.py", env={"WHEELS": str(wheels)})
    assert "built True 1.0" in again.stdout, again.stdout + again.stderr
    assert "Building image" not in again.stdout + again.stderr
    forced = target.cli("run", "installs.py", env={"WHEELS": str(wheels), "MODAL_FORCE_BUILD": "1"})
    assert "built True 1.0" in forced.stdout, forced.stdout + forced.stderr
    built = forced.stdout + forced.stderr
    # The two layers that install, not the one that sets a variable, and the first again by `Image.build`.
    assert built.count("Building image") == 3, built
