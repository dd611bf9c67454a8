"""API keys in the configuration: kept as their SHA-256, carried apart from the settings, never repeated."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from infra.configuration import ConfigurationError, carry, load_settings
from infra.keys import KEYS_CARRIER, carry_keys, fingerprint
from infra.settings import ApiKey, Settings

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-0123456789abcdef"
ONE = json.dumps([{"key": KEY, "name": "one", "scopes": ["inference", "admin"], "rate_limit_per_minute": 5}])


def load(directory: Path, text: str | None = None, **environment: str) -> Settings:
    if text is not None:
        (directory / "config.toml").write_text(text)
    return load_settings(environment, directory)


def test_a_key_is_read_and_its_sha256_is_kept(tmp_path: Path) -> None:
    settings = load(tmp_path, f'[security]\nenable_auth = true\n[[security.api_keys]]\nkey = "{KEY}"\nname = "one"\n')
    (key,) = settings.security.api_keys
    assert key.key == "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
    assert (key.scopes, key.models, key.enabled) == (("inference",), (), True)
    assert KEY not in repr(settings)
    assert key.key not in repr(key)


def test_its_sha256_may_stand_for_it() -> None:
    assert ApiKey(key=fingerprint(KEY), name="x") == ApiKey(key=KEY, name="x")


def test_its_end_and_its_budget_travel_with_it(tmp_path: Path) -> None:
    text = f'[security]\nenable_auth = true\n[[security.api_keys]]\nkey = "{KEY}"\nname = "one"\n'
    settings = load(tmp_path, f"{text}monthly_budget = 2.5\nexpires_at = 2030-01-01T00:00:00Z\n")
    (key,) = load_settings({**carry(settings), **carry_keys(settings)}, tmp_path).security.api_keys
    assert (key.monthly_budget, key.expires_at) == (2.5, datetime(2030, 1, 1, tzinfo=UTC))


def test_api_key_in_the_environment_is_a_list_of_one(tmp_path: Path) -> None:
    settings = load(tmp_path, ENABLE_AUTH="true", API_KEY=KEY)
    assert settings.security.api_keys == (ApiKey(key=KEY, name="API_KEY"),)


def test_keys_travel_apart_from_the_settings_and_as_hashes(tmp_path: Path) -> None:
    settings = load(tmp_path, SECURITY__ENABLE_AUTH="true", SECURITY__API_KEYS=ONE)
    told, secret = carry(settings), carry_keys(settings)
    assert fingerprint(KEY) not in str(told)
    assert KEY not in str(told) + str(secret)
    assert load_settings({**told, **secret}, tmp_path).security == settings.security
    assert load_settings(told, tmp_path).security.api_keys == (), "an engine's container has no keys"


def test_without_auth_no_key_travels(tmp_path: Path) -> None:
    assert carry_keys(load(tmp_path, SECURITY__API_KEYS=ONE)) == {KEYS_CARRIER: "[]"}


def test_what_is_carried_wrongly_is_one_line_without_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({**carry(Settings()), KEYS_CARRIER: '[{"key": "sk-visible-0123"}]'}, tmp_path)
    assert str(caught.value) == "SERVICE_API_KEYS: not what a deploy puts there"


@pytest.mark.parametrize("keys", ["[]", ONE.replace('"scopes"', '"enabled": false, "scopes"')])
def test_asking_for_keys_that_nobody_can_have_is_refused(tmp_path: Path, keys: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^security\.enable_auth: is on, and no API key is enabled"):
        load(tmp_path, ENABLE_AUTH="true", SECURITY__API_KEYS=keys, STATE__KIND="memory")
    assert load(tmp_path, ENABLE_AUTH="true", SECURITY__API_KEYS=keys).security.enable_auth, "the table may hold some"


WRONG = {
    "too short": ('[{"key": "sk-oops", "name": "n"}]', "[0].key: expected 8 to 512 visible ASCII characters"),
    "a space": ('[{"key": "sk-oops sk-oops", "name": "n"}]', "[0].key: expected 8 to 512 visible"),
    "no string": ('[{"key": 1234567890123, "name": "n"}]', "[0].key: expected a string"),
    "half a hash": ('[{"key": "sha256:sk-oops", "name": "n"}]', "[0].key: expected sha256: and the 64"),
    "an unknown scope": ('[{"key": "sk-0123456789", "name": "n", "scopes": ["root"]}]', "[0].scopes[0]: expected"),
    "twice": ('[{"key": "sk-0123456789", "name": "a"}, {"key": "sk-0123456789", "name": "b"}]',
              ": two entries hold one key: 'a' and 'b'"),
    "an end without a zone": ('[{"key": "sk-0123456789", "name": "n", "expires_at": "2030-01-01T00:00:00"}]',
                              "[0].expires_at: expected a time with its zone, as 2030-01-01T00:00:00Z"),
    "no budget": ('[{"key": "sk-0123456789", "name": "n", "monthly_budget": 0}]', "[0].monthly_budget: expected"),
    "an unknown model": ('[{"key": "sk-0123456789", "name": "n", "models": ["none"]}]', "names a model that is not"),
    "not JSON": ('[{"key": "sk-0123456789"', "expected JSON"),
    "no table": ('["sk-0123456789"]', "[0]: expected"),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "line"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_told_without_the_key(tmp_path: Path, keys: str, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, SECURITY__API_KEYS=keys)
    told = str(caught.value)
    assert line in told
    assert "\n" not in told
    for secret in ("sk-oops", "1234567890123", "sk-0123456789"):
        assert secret not in told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[security]\ntrusted_proxies = ["10.0.0.0/33"]', "security.trusted_proxies[0]"),
        ('[security]\nallowed_origins = ["https://a.example/"]', "security.allowed_origins[0]: expected"),
        ('[security]\nallowed_origins = ["a.example"]', "security.allowed_origins[0]: expected"),
        ('[guards]\nblocked_prompts = ["(oops"]', "guards.blocked_prompts[0]: not a regular expression"),
        ('[guards]\nblocked_answers = ["x*"]', "guards.blocked_answers[0]: matches an empty text"),
    ],
)
def test_what_guards_the_edge_is_checked_at_the_start(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert line in str(caught.value)
