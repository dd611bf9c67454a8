"""AWS credentials by Modal's identity token, against moto's STS."""

from __future__ import annotations

import http.server
import json
import threading
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

from infra import blueprint
from infra.aws import Clients, StateUnavailable
from infra.identity import aws_session
from infra.setup import main
from infra.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.aws import Aws

pytestmark = pytest.mark.slow

ROLE = "arn:aws:iam::123456789012:role/llm-state"
REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def _container(aws_server: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a container on Modal finds in its environment: no credentials but its token."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server.endpoint_url)
    monkeypatch.setenv("MODAL_IDENTITY_TOKEN", "token-1")
    monkeypatch.setenv("MODAL_TASK_ID", "ta-1")


def shown(session: Any) -> list[str]:
    """The tokens that STS is shown from now on."""
    tokens: list[str] = []
    events = session._session.get_component("event_emitter")
    events.register(
        "provide-client-params.sts.AssumeRoleWithWebIdentity",
        lambda params, **_: tokens.append(params["WebIdentityToken"]),
    )
    return tokens


def test_a_container_shows_its_token_and_is_lent_the_role(aws_server: Aws) -> None:
    account = aws_server._account
    session = aws_session(region=REGION, role_arn=ROLE.replace("123456789012", account))
    tokens = shown(session)
    assert session.get_credentials() is not None
    assert tokens == []  # nothing is asked before it is used: a memory snapshot may hold it
    who = session.client("sts").get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{account}:assumed-role/llm-state/ta-1"
    session.client("dynamodb").list_tables()
    assert tokens == ["token-1"]


def test_what_is_lent_is_renewed_with_the_token_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    session = aws_session(region=REGION, role_arn=ROLE)
    tokens = shown(session)
    client = session.client("dynamodb")
    client.list_tables()
    monkeypatch.setenv("MODAL_IDENTITY_TOKEN", "token-2")
    credentials: Any = session.get_credentials()
    before, now = credentials.access_key, credentials._time_fetcher

    def soon() -> Any:
        return now() + timedelta(minutes=46)  # of sixty that STS lends it for

    monkeypatch.setattr("botocore.credentials._local_now", soon)
    monkeypatch.setattr(credentials, "_time_fetcher", soon)
    client.list_tables()
    assert (tokens[0], set(tokens[1:])) == ("token-1", {"token-2"})
    assert credentials.access_key != before


def test_it_comes_before_other_credentials_and_is_nothing_where_there_is_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    found: Any = aws_session(region=REGION, role_arn=ROLE).get_credentials()
    assert found.method == "modal-identity"
    monkeypatch.delenv("MODAL_IDENTITY_TOKEN")
    for role in (ROLE, None):
        found = aws_session(region=REGION, role_arn=role).get_credentials()
        assert found.access_key == "mine"


def test_the_services_clients_take_the_role_once() -> None:
    clients = Clients(region_name=REGION, role_arn=ROLE)
    try:
        clients.call_now("s3", "list_buckets")
        tokens = shown(clients._session)
        clients.call_now("dynamodb", "list_tables")
        assert tokens == []
        assert clients.client("dynamodb").meta.region_name == REGION
    finally:
        clients.close()


class Expired(http.server.BaseHTTPRequestHandler):
    """An STS that finds every token too old."""

    def do_POST(self) -> None:
        error = "<Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token expired</Message></Error>"
        body = f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{error}</ErrorResponse>'.encode()
        self.send_response(400)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def strict_sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Expired) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("strict_sts")
def test_a_container_that_has_outlived_its_token_says_so() -> None:
    clients = Clients(region_name=REGION, role_arn=ROLE)
    with pytest.raises(StateUnavailable, match="outlived its identity token") as failed:
        clients.call_now("dynamodb", "list_tables")
    clients.close()
    assert failed.value.code == "ExpiredTokenException"
    assert "token-1" not in str(failed.value)


def template(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["--cloudformation", *options]) == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


def test_the_template_has_a_role_that_the_apps_containers_alone_can_take(capsys: pytest.CaptureFixture[str]) -> None:
    made = template(capsys, "--workspace", "ac-123", "--environment", "prod")
    resources = made["Resources"]
    assert resources["IdentityProvider"]["Properties"] == {
        "Url": "https://oidc.modal.com", "ClientIdList": ["oidc.modal.com"]
    }  # fmt: skip
    role = resources["Role"]["Properties"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Federated": {"Ref": "IdentityProvider"}}
    assert statement["Condition"]["StringEquals"] == {"oidc.modal.com:aud": "oidc.modal.com"}
    pattern = statement["Condition"]["StringLike"]["oidc.modal.com:sub"]

    def subject(workspace: str = "ac-123", environment: str = "prod", app: str = "llm") -> str:
        where = f"modal:workspace_id:{workspace}:environment_name:{environment}:app_name:{app}"
        return f"{where}:function_name:Web.web:container_id:ta-1"

    assert fnmatchcase(subject(), pattern)
    for other in (subject("ac-1234"), subject(environment="prod2"), subject(app="llm2"), subject(app="other")):
        assert not fnmatchcase(other, pattern)
    (granted,) = role["Policies"]
    assert granted["PolicyDocument"] == blueprint.policy(table_name="llm-state", bucket_name="llm-state")
    assert made["Outputs"]["RoleArn"]["Value"] == {"Fn::GetAtt": ["Role", "Arn"]}


def test_an_accounts_one_provider_is_used_where_it_is_there_already(capsys: pytest.CaptureFixture[str]) -> None:
    arn = "arn:aws:iam::123456789012:oidc-provider/oidc.modal.com"
    resources = template(capsys, "--workspace", "ac-123", "--oidc-provider", arn)["Resources"]
    assert "IdentityProvider" not in resources
    (statement,) = resources["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Federated": arn}


def test_without_a_workspace_there_is_no_role(capsys: pytest.CaptureFixture[str]) -> None:
    made = template(capsys)
    assert set(made["Resources"]) == {"Table", "Bucket"}
    assert "Outputs" not in made


@pytest.mark.parametrize(
    ("workspace", "environment"), [("*", "main"), ("ac-*", "main"), ("my-team", "main"), ("ac-1", "*")]
)
def test_nothing_that_could_match_others_is_trusted(workspace: str, environment: str) -> None:
    with pytest.raises(ValueError, match=r"is no (workspace|environment)"):
        Trust(workspace, environment, "llm")


@pytest.mark.parametrize("options", [["--workspace", "ac-1"], ["--cloudformation", "--workspace", "*"]])
def test_what_makes_no_role_is_refused_in_the_commands_own_way(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
