"""Reads the settings: defaults, under a TOML file, under the environment.

The file is `config.toml` in the working directory, or what `CONFIG_FILE` names (which then must exist). Every key can
be overridden as `SECTION__KEY` (lists and tables as JSON), and some by a short name (`SHORT_NAMES`). In a container
the settings that were resolved at deploy time come as JSON in `SERVICE_SETTINGS`, and nothing else is read.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from infra.keys import KEYS_CARRIER, carried_keys
from infra.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

CARRIER = "SERVICE_SETTINGS"
"""The variable in which resolved settings travel to a container."""

SHORT_NAMES = {
    "RUST_LOG": ("server", "log_level"),
    "LOG_LEVEL": ("server", "log_level"),
    "SERVER_HOST": ("server", "host"),
    "SERVER_PORT": ("server", "port"),
    "ENABLE_AUTH": ("security", "enable_auth"),
    "DEFAULT_DEVICE": ("models", "default_device"),
    "HF_TOKEN": ("models", "hf_token"),
    "CUDA_VISIBLE_DEVICES": ("models", "cuda_visible_devices"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("observability", "otlp_endpoint"),
}
"""Variable -> section and key. A later one wins over an earlier one; `SECTION__KEY` wins over both."""

_NAME = "letters, digits, '.', '_' and '-', the first one a letter or a digit"
SPELLINGS = {
    "id": f"a short name, of at most 48 {_NAME}",
    "app_name": f"at most 63 {_NAME}",
    "metrics_path": "a path, which begins with '/'",
    "otlp_endpoint": "the address of a collector, as http://collector:4318",
    "custom_domains": "names of hosts, as llm.example.com",
    "allowed_origins": "origins as browsers tell them (https://example.com), or '*'",
}
"""Key -> how it may be spelled, where the settings have a pattern for that."""


class ConfigurationError(Exception):
    """The configuration is wrong. The message is one line: where, which key, what was expected."""


def load_settings(environment: Mapping[str, str] | None = None, directory: Path | None = None) -> Settings:
    """The settings as this process should see them. Raises `ConfigurationError`."""
    environment = os.environ if environment is None else environment
    if carried := environment.get(CARRIER):
        return _with_keys(_validate({}, {}, carried=carried), environment)
    path = _file(environment, directory or Path.cwd())
    settings = _validate(_read(path), _overrides(environment), path=path)
    refuse_locked_out(settings)
    return settings


def refuse_locked_out(settings: Settings) -> None:
    """Raise ConfigurationError when keys are asked for and nobody can have one. (A table may hold some, or be given
    some.)"""
    security = settings.security
    if settings.state.kind == "memory" and security.enable_auth and not any(key.enabled for key in security.api_keys):
        raise ConfigurationError(
            "security.enable_auth: is on, and no API key is enabled, so every request would be refused; expected a "
            'table [[security.api_keys]], the environment\'s API_KEY, or state.kind = "aws" and keys in the table'
        )


def _with_keys(settings: Settings, environment: Mapping[str, str]) -> Settings:
    try:
        security = settings.security.model_copy(update={"api_keys": carried_keys(environment)})
    except ValidationError:
        raise ConfigurationError(f"{KEYS_CARRIER}: not what a deploy puts there") from None
    return settings.model_copy(update={"security": security})


def carry(settings: Settings) -> dict[str, str]:
    """The environment variable that gives a container these settings, free of secrets."""
    return {CARRIER: settings.without_secrets().model_dump_json()}


def _file(environment: Mapping[str, str], directory: Path) -> Path | None:
    if named := environment.get("CONFIG_FILE"):
        path = directory / named
        if not path.is_file():
            raise ConfigurationError(f"{named}: CONFIG_FILE names this file, and it does not exist")
        return path
    path = directory / "config.toml"
    return path if path.is_file() else None


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path.name}: not readable as TOML: {error}") from None


class _Environment(BaseSettings, Settings):
    """Only a schema: tells pydantic-settings which variables exist."""

    model_config = SettingsConfigDict(env_nested_delimiter="__", extra="forbid", frozen=True)


class _Source(EnvSettingsSource):
    """pydantic-settings' reader of variables, given an environment rather than taking the process's."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        super().__init__(_Environment)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environment.items()}


def _overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    for variable, (section, key) in SHORT_NAMES.items():
        if value := environment.get(variable):
            overrides.setdefault(section, {})[key] = value.lower() if key == "log_level" else value
    if api_key := environment.get("API_KEY"):
        overrides.setdefault("security", {})["api_keys"] = [{"key": api_key, "name": "API_KEY"}]
    for variable, value in environment.items():
        if "__" in variable:
            try:
                overrides = _merge(overrides, _Source({variable: value})())
            except SettingsError:
                told = "" if _is_secret(variable.lower().split("__")) else f", got {value!r}"
                raise ConfigurationError(f"environment: {variable}: expected JSON{told}") from None
    return overrides


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _validate(
    from_file: dict[str, Any],
    overrides: dict[str, Any],
    *,
    path: Path | None = None,
    carried: str | None = None,
) -> Settings:
    try:
        if carried is not None:
            return Settings.model_validate_json(carried)
        return Settings.model_validate(_merge(from_file, overrides))
    except ValidationError as error:
        first, *others = _distinct(error.errors())
        location = first["loc"]
        where = CARRIER if carried is not None else _source(first, from_file, overrides, path)
        more = f" (and {len(others)} more)" if others else ""
        key = f"{_key(location)}: " if location else ""
        raise ConfigurationError(f"{where}: {key}{_expectation(first)}{more}") from None


def _source(error: ErrorDetails, from_file: dict[str, Any], overrides: dict[str, Any], path: Path | None) -> str:
    """Where a mistake was made."""
    if path is None:
        return "environment"
    if error["loc"]:
        return "environment" if _holds(overrides, error["loc"]) else path.name
    try:  # it is one of several keys together: of the file's alone?
        Settings.model_validate(from_file)
    except ValidationError as alone:
        if any(mistake["msg"] == error["msg"] for mistake in alone.errors()):
            return path.name
    return f"{path.name} and environment"


def _distinct(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The mistakes, without those that are only another one's consequence, names that do not exist first."""
    locations = [error["loc"] for error in errors]
    causes = [
        error
        for error in errors
        if not any(len(other) > len(error["loc"]) and other[: len(error["loc"])] == error["loc"] for other in locations)
    ]
    return sorted(causes, key=lambda error: error["type"] != "extra_forbidden")


def _holds(values: Any, location: tuple[int | str, ...]) -> bool:
    for step in location:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _expectation(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    if error["type"] == "missing":
        return "this key is required"
    if error["type"] == "tuple_type":
        return "expected a list; a table of it is written [[…]]"
    if error["type"] == "string_pattern_mismatch":
        name = next(step for step in reversed(error["loc"]) if isinstance(step, str))
        return f"expected {SPELLINGS.get(name, 'another spelling')}, got {error['input']!r}"
    message = str(error["msg"])
    message = message.removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "value_error":
        return message
    return f"expected {message}" + ("" if _is_secret(error["loc"]) else f", got {error['input']!r}")


def _is_secret(location: Sequence[int | str]) -> bool:
    """Whether what stands there is a secret, or may hold one."""
    return location[-1] in ("key", "hf_token", "api_keys") or "api_keys" in location[-2:]


def main() -> None:
    """Print the value of one key, named as `section.key`: for the Makefile."""
    section, _, key = sys.argv[1].partition(".")
    try:
        print(getattr(getattr(load_settings(), section), key))
    except ConfigurationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
