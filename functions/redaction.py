"""What is spelled as a key is struck out of the log, wherever it comes from. Pure.

Keys are known by what stands before them (a name, a scheme), and by their own shapes. The shapes are as narrow as the
keys that there are: whoever reads a log misses what was struck out of it for nothing.
"""

from __future__ import annotations

import re
from typing import Final

_BETWEEN = r"""["'\s\\]{0,3}[:=,][\s"'\\]{0,3}(?:b["'])?"""
"""A name and its value: in JSON (also in JSON in JSON), as Python tells a dict or a list of headers, in a shell."""
_SCHEME = r"(?:basic|bearer|digest|negotiate|ntlm|token|key|api-?key|dpop|hawk|oauth|aws4-hmac-sha256)"
_NAME = r"[\w*.-]++[ ]?+="
_FOLD = r"(?:\s|\\+[rnt])*+"
_PARTS = rf"""(?:{_NAME}[ ]?+(?:(?P<quote>\\*+")(?:(?!(?<!\\)(?P=quote))[^\r\n])*+(?:(?P=quote))?+|[^\s"'\\,)\]}}]*+)
    (?:{_FOLD},{_FOLD}(?={_NAME}))?+)+"""
"""A credential of several parts: `Digest username="…", response="…"`, `AWS4-HMAC-SHA256 Credential=…, Signature=…` (RFC
9110, 11.4). What is in quotes ends at a quote that was escaped as often as the first one, else with the line. (`++` at
the end would be quicker: `re` raises SystemError of groups in what it repeats.)"""
SECRET: Final = re.compile(
    rf"""(?P<before>
          \b(?:proxy-)?authorization{_BETWEEN}
          (?:(?P<parted>[a-z][\w-]*+[ ]++(?={_NAME}))|{_SCHEME}[ ]+|[a-z][\w-]*+[ ]++(?=\*))?
        | \b(?:x-)?api[-_]?key{_BETWEEN} | --(?:admin-)?api-key[\s,="'\\]+
        | secret[-_]?access[-_]?key{_BETWEEN} | token[-_]?secret{_BETWEEN} | \bmodal-secret{_BETWEEN}
        | \bx-amz-(?:security-token|signature){_BETWEEN} | \b(?:aws[-_]?)?session[-_]?token{_BETWEEN}
        | \bopenai-insecure-api-key\.
        )
        (?!(?:none|null|true|false)\b)(?(parted){_PARTS}|[^\s"'\\,;&)\]}}]+)
      | (?P<scheme>\bbearer[ ]+)(?:(?-i:[a-z]{{0,15}})(?![\w.~+/=-])|(?P<token>[^\s"'\\,;&)\]}}]+))
      | (?-i:\b(?:
            sk-(?=[\w-]{{0,40}}[0-9A-Z])[\w-]{{6,}} | sk-[\w-]{{20,}}
          | hf_[A-Za-z0-9]{{30,}} | ek-[\w-]{{40,}}
          | (?:ak|as|wk|ws)-(?=[\w-]{{0,40}}[0-9A-Z])(?:[\w-]{{32,}}|[A-Za-z0-9]{{20,}})
          | (?:AKIA|ASIA)[A-Z0-9]{{16}}\b
        ))""",
    re.VERBOSE | re.IGNORECASE,
)
"""Of the shapes: the service's and OpenAI's keys (`sk-`), engines' (`ek-`, 43 characters), Hugging Face's tokens
(34 letters), Modal's tokens and proxy tokens (ids and secrets: 22 letters and digits; the emulator's secrets: 32
characters), AWS's access key ids."""
PASSWORD: Final = re.compile(r"""(://[^\s/:@"']*+:)(?!\d{1,5}[?#])[^\s/"']+@""")
"""In an address: of a proxy, say. It ends with the last `@` before the host, as clients read it."""
SIGNS: Final = (
    "sk-", "ek-", "hf_", "ak-", "as-", "wk-", "ws-", "akia", "asia", "bearer", "api-key", "api_key", "apikey",
    "authorization", "secret", "x-amz-", "session_token", "session-token", "sessiontoken",
)  # fmt: skip
"""Without one of these there is none: an expression that looks everywhere takes longer than all else."""
STRUCK: Final = "***"


def strike_out(text: str) -> str:
    """`text` without what is spelled as a key."""
    if "@" in text and "://" in text:
        text = PASSWORD.sub(rf"\1{STRUCK}@", text)
    lower = text.lower()
    for sign in SIGNS:
        if sign in lower:
            break
    else:
        return text
    return SECRET.sub(_left_of, text)


def _left_of(found: re.Match[str]) -> str:
    if found["scheme"] is not None:  # a plain word after it is one of a sentence
        return found[0] if found["token"] is None else found["scheme"] + STRUCK
    return (found["before"] or "") + STRUCK
