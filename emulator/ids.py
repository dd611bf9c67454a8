"""Identifiers as Modal writes them: a two-letter kind, a dash, 22 letters and digits, or a ULID in capitals."""

from __future__ import annotations

import base64
import hashlib
import os
import string

ALPHABET = string.ascii_letters + string.digits
LENGTH = 22
ULIDS = frozenset({"ta", "fc", "in"})
"""Kinds that are numbered so: the client finds a container's frames in a traceback by `<ta-` and 26 such signs."""

_CROCKFORD = bytes.maketrans(b"IJKLMNOPQRSTUV", b"JKMNPQRSTVWXYZ")
_LETTERS = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))
"""What each random byte becomes. Some letters are a little likelier: an id is as hard to guess as 124 random bits."""


def new_id(prefix: str) -> str:
    """A fresh identifier, e.g. `ap-0aBc…`; the `modal` CLI tells ids from names by this very shape."""
    if prefix in ULIDS:
        return f"{prefix}-" + base64.b32hexencode(os.urandom(16))[:26].translate(_CROCKFORD).decode()
    return f"{prefix}-{os.urandom(LENGTH).translate(_LETTERS).decode()}"


def derived_id(prefix: str, *parts: bytes) -> str:
    """The identifier that always belongs to these parts: same parts, same id."""
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
    number = int.from_bytes(digest, "big")
    letters = []
    for _ in range(LENGTH):
        number, remainder = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[remainder])
    return f"{prefix}-" + "".join(letters)
