"""What is honoured of an image's layers without building it."""

from __future__ import annotations

from modal_proto import api_pb2

from emulator.storage.dockerfile import Layers, apply_commands, is_install


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


def test_what_cannot_be_honoured_is_listed_whole() -> None:
    found = layers("RUN make \\", "  install", "# a comment", "RUN pip install x", "ENTRYPOINT []")
    assert found.not_honoured == ["RUN make  install", "RUN pip install x"]
    assert [command for command in found.not_honoured if not is_install(command)] == ["RUN make  install"]
