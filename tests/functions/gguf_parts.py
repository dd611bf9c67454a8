"""A GGUF file cut into parts, as llama.cpp's own `gguf-split` does it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a value -> its bytes (`GGUF_TYPE_*`); 8 is a text, 9 a list."""
UINT16, INT32, TEXT, LIST = 2, 5, 8, 9
ALIGNMENT = 32


@dataclass
class Reader:
    data: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> int:
        value: int = struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]
        return value

    def text(self) -> bytes:
        return self.take(self.number("Q"))

    def skip_value(self, kind: int) -> None:
        if kind == TEXT:
            self.text()
        elif kind == LIST:
            inner, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip_value(inner)
        else:
            self.take(WIDTHS[kind])


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def split(source: Path, folder: Path, *, parts: int) -> list[Path]:
    """The parts of `source`, written into `folder`."""
    reader = Reader(source.read_bytes())
    head = reader.take(8)
    tensors, values = reader.number("Q"), reader.number("Q")
    start = reader.at
    for _ in range(values):
        reader.text()
        reader.skip_value(reader.number("I"))
    said = reader.data[start : reader.at]
    infos: list[tuple[bytes, int]] = []  # without its offset, and that
    for _ in range(tensors):
        start = reader.at
        reader.text()
        reader.take(8 * reader.number("I") + 4)
        infos.append((reader.data[start : reader.at], reader.number("Q")))
    weights = reader.data[reader.at + -reader.at % ALIGNMENT :]
    ends = sorted([*(offset for _, offset in infos), len(weights)])
    size = {begins: following - begins for begins, following in pairwise(ends)}
    files = []
    for number in range(parts):
        mine = infos[number * tensors // parts : (number + 1) * tensors // parts]
        own = text("split.no") + struct.pack("<IH", UINT16, number)
        own += text("split.count") + struct.pack("<IH", UINT16, parts)
        own += text("split.tensors.count") + struct.pack("<Ii", INT32, tensors)
        said_here, count = (said + own, values + 3) if number == 0 else (own, 3)
        listed, content = b"", b""
        for info, offset in mine:
            listed += info + struct.pack("<Q", len(content))
            content += padded(weights[offset : offset + size[offset]])
        file = folder / f"demo-{number + 1:05d}-of-{parts:05d}.gguf"
        file.write_bytes(padded(head + struct.pack("<QQ", len(mine), count) + said_here + listed) + content)
        files.append(file)
    return files
