"""The configuration: defaults, under a file, under the environment; wrong input stops the start with one clear line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from infra.configuration import ConfigurationError, carry, load_settings
from infra.settings import DEMO_MODEL, Model, Scaling, Settings

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"

SEES = '[[models.available_models]]\nid = "a"\nname = "x"\n'


def load(directory: Path, text: str | None = None, **environment: str) -> Settings:
    if text is not None:
        (directory / "config.toml").write_text(text)
    return load_settings(environment, directory)


def test_defaults_work_with_no_file(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 3000)
    assert settings.models.available_models == (DEMO_MODEL,)


def test_the_example_holds_exactly_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, EXAMPLE.read_text()) == Settings()


def keys_of(section: type[BaseModel]) -> set[str]:
    names = set()
    for name, field in section.model_fields.items():
        names.add(name)
        nested = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in nested:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                names |= keys_of(kind)
    return names


def test_the_example_documents_every_key_and_no_other() -> None:
    text = EXAMPLE.read_text()
    documented = set(re.findall(r"^(?:# )?([a-z_]+) = ", text, re.MULTILINE))
    documented |= {
        part for table in re.findall(r"^(?:# )?\[+([a-z_.]+)\]+", text, re.MULTILINE) for part in table.split(".")
    }
    assert documented == keys_of(Settings)


def test_the_file_overrides_defaults_and_the_environment_overrides_the_file(tmp_path: Path) -> None:
    text = '[server]\nport = 4000\nlog_level = "warn"\n[limits]\nmax_sessions = 1000\n'
    settings = load(tmp_path, text, SERVER__PORT="5000")
    assert (settings.server.port, settings.server.log_level) == (5000, "warn")


def test_lists_and_tables_in_the_environment_are_json(tmp_path: Path) -> None:
    settings = load(tmp_path, SECURITY__ALLOWED_ORIGINS='["https://a.example"]', WEB__SCALING='{"max_containers": 7}')
    assert settings.security.allowed_origins == ("https://a.example",)
    assert settings.web.scaling.max_containers == 7


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("LOG_LEVEL", "DEBUG", lambda s: s.server.log_level == "debug"),
        ("RUST_LOG", "warn", lambda s: s.server.log_level == "warn"),
        ("SERVER_HOST", "127.0.0.1", lambda s: s.server.host == "127.0.0.1"),
        ("SERVER_PORT", "81", lambda s: s.server.port == 81),
        ("DEFAULT_DEVICE", "cpu", lambda s: s.models.default_device == "cpu"),
        ("HF_TOKEN", "hf_x", lambda s: s.models.hf_token == SecretStr("hf_x")),
        ("CUDA_VISIBLE_DEVICES", "1", lambda s: s.models.cuda_visible_devices == "1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", lambda s: s.observability.otlp_endpoint == "http://c:4318"),
    ],
)
def test_short_names(tmp_path: Path, variable: str, value: str, read) -> None:  # type: ignore[no-untyped-def]
    assert read(load(tmp_path, **{variable: value}))


def test_section_and_key_win_over_a_short_name(tmp_path: Path) -> None:
    assert load(tmp_path, SERVER_PORT="1", SERVER__PORT="2").server.port == 2


@pytest.mark.parametrize(
    ("text", "environment", "line"),
    [
        ("[server]\nprot = 1", {}, "config.toml: server.prot: there is no such key"),
        ("[sever]\nport = 1", {}, "config.toml: sever: there is no such key"),
        ("[server]\nport = 70000", {}, "config.toml: server.port: expected less than or equal to 65535, got 70000"),
        ("[server", {}, "config.toml: not readable as TOML"),
        (None, {"SERVER__PROT": "1"}, "environment: server.prot: there is no such key"),
        (
            None,
            {"LOG_LEVEL": "loud"},
            "environment: server.log_level: expected 'trace', 'debug', 'info', 'warn' or 'error', got 'loud'",
        ),
        (None, {"MODELS__AVAILABLE_MODELS": "[{"}, "environment: MODELS__AVAILABLE_MODELS: expected JSON"),
        ("[server]\nport = 1", {"SERVER__PORT": "x"}, "environment: server.port: expected a valid integer"),
        (
            '[[models.available_models]]\nname = "x"',
            {},
            "config.toml: models.available_models[0].id: this key is required",
        ),
        (
            "[web.scaling]\nmin_containers = 9",
            {},
            "config.toml: web.scaling: min_containers (9) is above max_containers (4)",
        ),
        (
            "[models.available_models]\nid = 1",
            {},
            "config.toml: models.available_models: expected a list; a table of it",
        ),
        (
            SEES + "vision = true\n[deploy]\ntarget = 'local'",
            {"LOG_LEVEL": "info"},
            "config.toml: model 'a' has vision = true, and llama.cpp",
        ),
        (
            SEES + "vision = true",
            {"DEPLOY__TARGET": "local"},
            "config.toml and environment: model 'a' has vision = true, and llama.cpp",
        ),
        (None, {"DEPLOY__WEB": "server"}, 'environment: deploy.web = "server" answers 503'),
        (
            '[[models.available_models]]\nid = "a b"\nname = "x"',
            {},
            "config.toml: models.available_models[0].id: expected a short name, of at most 48 letters, digits, '.', "
            "'_' and '-', the first one a letter or a digit, got 'a b'",
        ),
        ("[deploy]\napp_name = '-'", {}, "config.toml: deploy.app_name: expected at most 63 letters"),
        ("[observability]\nmetrics_path = 'm'", {}, "config.toml: observability.metrics_path: expected a path, which"),
        (
            "[security]\nallowed_origins = ['x']",
            {},
            "config.toml: security.allowed_origins[0]: expected origins as browsers tell them (https://example.com)",
        ),
        (
            None,
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:pass@c"},
            "environment: observability.otlp_endpoint: expected an address without a user and a password",
        ),
        (None, {"CONFIG_FILE": "absent.toml"}, "absent.toml: CONFIG_FILE names this file, and it does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, text: str | None, environment: dict[str, str], line: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, **environment)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_one_typo_is_one_mistake_and_comes_before_what_it_left_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as typo:
        load(tmp_path, '[[models.available_models]]\nid = "a"\nname = "a"\nquantisation = "q4"\n')
    assert str(typo.value) == "config.toml: models.available_models[0].quantisation: there is no such key"
    with pytest.raises(ConfigurationError) as misnamed:
        load(tmp_path, '[[models.available_models]]\nid = "a"\nnam = "a"\n')
    assert str(misnamed.value) == "config.toml: models.available_models[0].nam: there is no such key (and 1 more)"


def test_a_wrong_secret_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "[models]\nhf_token = 12345")
    assert "12345" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "[observability]\notlp_endpoint = 'https://user:12345@c'")
    assert "12345" not in str(caught.value)


def test_two_models_may_not_answer_to_one_name(tmp_path: Path) -> None:
    text = '[[models.available_models]]\nid = "a"\nname = "x"\n[[models.available_models]]\nid = "x"\nname = "y"'
    with pytest.raises(ConfigurationError, match="two models answer to 'x'"):
        load(tmp_path, text)


def test_settings_travel_to_containers_without_secrets(tmp_path: Path) -> None:
    settings = load(tmp_path, '[[models.available_models]]\nid = "a"\nname = "b/c"\n', HF_TOKEN="hf_secret")
    carried = carry(settings)
    assert "hf_secret" not in str(carried)
    assert load_settings({**carried, "SERVER__PORT": "1"}, tmp_path) == settings.without_secrets()


def test_the_engine_depends_on_device_and_target() -> None:
    models = Settings().models
    gpu, cpu = Model(id="a", name="a"), Model(id="b", name="b", device="cpu")
    assert gpu.engine_for(models, "modal") == "sglang"
    assert cpu.engine_for(models, "modal") == "llamacpp"
    assert gpu.engine_for(models, "local") == "llamacpp"
    assert Scaling().max_containers == 1


def test_a_web_endpoint_that_is_a_server_must_be_kept_warm(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expected web\.scaling\.min_containers of 1 or more"):
        load(tmp_path, DEPLOY__WEB="server")
    assert load(tmp_path, DEPLOY__WEB="server", WEB__SCALING='{"min_containers": 1}').deploy.web == "server"


def test_the_example_is_valid_toml_with_its_comments_opened() -> None:
    text = EXAMPLE.read_text()
    _, opened = text.split("# A real model is one entry away:\n")
    block = opened.split("\n\n")[0].replace("# ", "")
    (entry,) = tomllib.loads(block)["models"]["available_models"]
    assert Model.model_validate(entry).id == "qwen"
