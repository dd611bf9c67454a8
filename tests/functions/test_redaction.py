"""What must be struck out of a log, and what must stay in it."""

from __future__ import annotations

import json
import secrets

import pytest

from emulator.ids import new_id
from functions.redaction import SECRET, SIGNS, strike_out
from infra.key_records import made_secret

OURS = "sk-" + 23 * "a1"
HUB = "hf_" + 17 * "aB"
MODAL = 11 * "a1"
AWS = "AKIA" + 8 * "Q7"
DIGEST = 'username="Mufasa", realm="a, b", nonce="7yp", uri="/x?a=b", qop=auth, nc=00000001, response="75\\"3"'
SECRETS = {"ek": 32, "ws": 24, "as": 24}
"""What is made for engines, and by the emulator: bytes of randomness."""
STRUCK_OUT = {
    f"for {OURS} and sk-abcdef123.": "for *** and ***.",
    "sk-proj-Ab_cd-ef, sk-ant-api03-x1": "***, ***",
    f"HF_TOKEN={HUB}": "HF_TOKEN=***",
    f"ak-{MODAL}:as-{MODAL}, wk-{MODAL}.ws-{MODAL}": "***:***, ***.***",
    "ws-" + 16 * "-Z" + " of the emulator": "*** of the emulator",
    f"{AWS} and ASIA{16 * 'X'}": "*** and ***",
    "Authorization: Bearer secretword": "Authorization: Bearer ***",
    "authorization: Basic dXNlcjpwYXNz": "authorization: Basic ***",
    "[(b'authorization', b'Bearer secretword'), (b'x', b'y')]": "[(b'authorization', b'Bearer ***'), (b'x', b'y')]",
    "{'Authorization': 'Bearer secretword'}": "{'Authorization': 'Bearer ***'}",
    f"Authorization: Digest {DIGEST}": "Authorization: Digest ***",
    f"> proxy-authorization: Digest {DIGEST}\r\n> Host: x": "> proxy-authorization: Digest ***\r\n> Host: x",
    f"{{'Authorization': 'Digest {DIGEST}', 'Host': 'x'}}": "{'Authorization': 'Digest ***', 'Host': 'x'}",
    f"[(b'authorization', b'Digest {DIGEST}'), (b'x', b'y=z')]": "[(b'authorization', b'Digest ***'), (b'x', b'y=z')]",
    json.dumps({"authorization": f"Digest {DIGEST}", "x": "y=z"}): '{"authorization": "Digest ***", "x": "y=z"}',
    json.dumps(json.dumps({"authorization": f"Digest {DIGEST}", "x": "y=z"})): json.dumps(
        '{"authorization": "Digest ***", "x": "y=z"}'
    ),
    'Authorization: Digest username="a\\"b", response="0f\n then': "Authorization: Digest ***\n then",
    "Authorization: AWS4-HMAC-SHA256 Credential=AK/us/s3, SignedHeaders=a;b, Signature=0f  model=x": (
        "Authorization: AWS4-HMAC-SHA256 ***  model=x"
    ),
    'authorization: Own id="1",\r\n mac="2", (next)': "authorization: Own ***, (next)",
    "Authorization: Negotiate YIIabc/+==, Authorization: token abc": (
        "Authorization: Negotiate ***, Authorization: token ***"
    ),
    "sent Bearer live-0123 to it": "sent Bearer *** to it",
    "ServerArgs(api_key='abcdef', host='x')": "ServerArgs(api_key='***', host='x')",
    '{"x-api-key":"abcdef"}': '{"x-api-key":"***"}',
    r'"{\"api_key\": \"abcdef\"}"': r'"{\"api_key\": \"***\"}"',
    "launch --api-key abcdef --port 1": "launch --api-key *** --port 1",
    "['--api-key', 'abcdef', '--port']": "['--api-key', '***', '--port']",
    "chat, openai-insecure-api-key.abcdef": "chat, openai-insecure-api-key.***",
    "AWS_SECRET_ACCESS_KEY=ab/cd+ef AWS_SESSION_TOKEN=xyz": "AWS_SECRET_ACCESS_KEY=*** AWS_SESSION_TOKEN=***",
    '{"SecretAccessKey": "ab/cd+ef", "SessionToken": "xyz"}': '{"SecretAccessKey": "***", "SessionToken": "***"}',
    "GET /x?X-Amz-Security-Token=xyz&X-Amz-Signature=0f&a=b": "GET /x?X-Amz-Security-Token=***&X-Amz-Signature=***&a=b",
    "by http://me:pa55:w0rd@proxy:3128/x, redis://:pa55@h": "by http://me:***@proxy:3128/x, redis://:***@h",
    "http://me:pa@5#5@proxy:3128/x@y,http://you:pa55@h": "http://me:***@proxy:3128/x@y,http://you:***@h",
    "MODAL_TOKEN_SECRET=abc; Modal-Secret: abc": "MODAL_TOKEN_SECRET=***; Modal-Secret: ***",
}
LEFT = [
    "task-12345678 was asked as-is, has-been, as-of-yesterday-evening-late-at-night",
    "as-soon-as-possible ws-connection-closed wk-end-of-week ak-standing as-1",
    "hf_hub_download of hf_transfer, HF_HUB_OFFLINE",
    "sk-learn and the locale sk-SK",
    "Asia/Tokyo, asia-northeast, AKIA is a prefix",
    "the bearer token is missing; a bearer of news",
    "api_key=None, 'api_key': null, api-key is wrong",
    "ServerArgs(hf_token=None, session_token=None)",
    "a secret is missing: modal secret create",
    "POST /v1/chat/completions 200",
    'Digest username="x" is a scheme, authorization= none of it',
    "http://127.0.0.1:3000/v1 for me@example.com, ssh://git@host:22/x, http://[::1]:80/a:b@c",
    "http://host:80?to=me@example.com, http://host:80#me@example.com",
]  # fmt: skip


@pytest.mark.parametrize("text", STRUCK_OUT)
def test_what_is_spelled_as_a_key_is_struck_out(text: str) -> None:
    assert strike_out(text) == STRUCK_OUT[text]
    assert strike_out(STRUCK_OUT[text]) == STRUCK_OUT[text], "and nothing more of what is left"


@pytest.mark.parametrize("text", LEFT)
def test_ordinary_words_stay(text: str) -> None:
    assert strike_out(text) == text


def test_no_key_that_is_made_here_gets_past_it() -> None:
    for _ in range(500):
        engine, proxy, client = (f"{kind}-{secrets.token_urlsafe(size)}" for kind, size in SECRETS.items())
        for key in (made_secret(), new_id("wk"), engine, proxy, client):
            assert strike_out(json.dumps({"message": f"x {key} y"})) == '{"message": "x *** y"}', key


def test_a_text_without_a_sign_has_nothing_to_strike_out() -> None:
    for text in STRUCK_OUT:
        for found in SECRET.finditer(text):
            assert any(sign in found[0].lower() for sign in SIGNS), found[0]
