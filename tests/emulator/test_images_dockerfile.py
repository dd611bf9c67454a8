"""What is honoured of an image's layers without building it."""

from __future__ import annotations

from modal_proto import api_pb2

from emulator.images.dockerfile import Layers, apply_commands


def layers(*commands: str, files: tuple[str, ...] = ()) -> Layers:
    result = Layers()
    context = [api_pb2.MountFile(filename=name, sha256_hex=name[-1] * 64, mode=0o755) for name in files]
    apply_commands(result, ["FROM base", *commands], context)
    return result


def test_variables_are_set_with_quotes_and_earlier_variables_resolved() -> None:
    found = layers("ENV A=1 B='two words'", "ENV PATH=/opt/$A:${B}", "ENV OLD the rest of it")
    assert found.environment == {"A": "1", "B": "two words", "PATH": "/opt/1:two words", "OLD": "the rest of it"}


def test_the_working_directory_may_be_relative_to_the_last() -> None:
    assert layers("WORKDIR /srv", "WORKDIR app").workdir == "/srv/app"
    assert layers().workdir == "/root"


def test_copied_files_land_where_the_command_says() -> None:
    found = layers("COPY . /data", files=("/a", "/sub/b"))
    assert found.copied == [("/data/a", "a" * 64, 0o755), ("/data/sub/b", "b" * 64, 0o755)]
    assert layers("COPY a /opt/", files=("/a", "/b")).copied == [("/opt/a", "a" * 64, 0o755)]
    assert layers("COPY a /opt/renamed", files=("/a",)).copied == [("/opt/renamed", "a" * 64, 0o755)]


def test_what_is_run_is_told_from_what_is_installed_and_from_what_is_not_honoured() -> None:
    found = layers("RUN make \\", "  install", "# a comment", "RUN pip install x", "ENTRYPOINT []", "VOLUME /v")
    assert [shell.command for shell in found.shells] == ["make  install"]
    assert [install.command for install in found.installs] == ["pip install x"]
    assert found.not_honoured == ["VOLUME /v"]


def test_the_python_of_dockers_own_images_is_known_and_other_bases_are_not_pulled() -> None:
    assert layers("FROM python:3.12.10-slim-bookworm").python == "3.12"
    found = layers("FROM nvidia/cuda:12.4")
    assert (found.python, found.not_honoured) == ("", ["FROM nvidia/cuda:12.4"])


def test_the_path_of_an_image_is_that_of_dockers() -> None:
    assert layers("ENV PATH=/more:$PATH").environment["PATH"].startswith("/more:/usr/local/sbin:/usr/local/bin:")


def test_uv_sync_begins_anew() -> None:
    found = layers("RUN pip install x", "RUN /.uv/uv sync --project=/.uv", "RUN uv pip install y")
    assert [install.command for install in found.installs] == ["/.uv/uv sync --project=/.uv", "uv pip install y"]


def test_build_arguments_are_put_in() -> None:
    found = Layers()
    apply_commands(found, ["ARG V=1", "ARG W=1", "RUN pip install a==$V b==$W"], (), build_arguments={"W": "2"})
    assert found.installs[0].words == ("a==1", "b==2")
