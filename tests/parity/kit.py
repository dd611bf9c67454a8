"""What the parity tests run against: an emulator of their own, or a real Modal account.

The same test file serves both, so a test asks its `Target` for everything that depends on where it runs: names,
addresses, the client, the environment of a command. Apps' names are made unique on both, so that no test leans on one.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import modal

from tests.modal_cli import PLAIN, CliServer, Command, cli_server, without_modal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from emulator.emulator import Emulator

APPS = Path(__file__).parent / "apps"
DEPLOY_SECONDS = 60.0

_Named = TypeVar("_Named", "modal.Function[Any, Any, Any]", modal.Cls, modal.Server)


@dataclass(frozen=True)
class DeployedApp:
    """An app that is deployed. `name` differs in each session."""

    name: str
    target: Target

    def function(self, name: str) -> modal.Function[Any, Any, Any]:
        return self._found(modal.Function.from_name(self.name, name, client=self.target.client))

    def cls(self, name: str) -> modal.Cls:
        return self._found(modal.Cls.from_name(self.name, name, client=self.target.client))

    def server(self, name: str) -> modal.Server:
        return self._found(modal.Server.from_name(self.name, name, client=self.target.client))

    def url(self, name: str) -> str:
        """Of a web function; of a class's web method as `Class.method`. (Of a Server: `server(name).get_url()`.)"""
        owner, _, method = name.rpartition(".")
        function = getattr(self.cls(owner)(), method) if owner else self.function(name)
        url = function.get_web_url()
        assert url, f"{name} of {self.name} has no address"
        return str(url)

    def _found(self, named: _Named) -> _Named:
        """Looked up now: a name that does not exist fails here, not where it is first used."""
        named.hydrate(self.target.client)
        return named


@dataclass
class Target:
    """Where the tests run."""

    name: Literal["emulator", "modal"]
    environment: Mapping[str, str]
    """All variables for a subprocess that is to use it."""
    client: modal.Client
    """For calls of the SDK in the test process: `modal.Function.from_name(app, f, client=target.client)`."""
    server: CliServer
    running: Emulator | None = None
    session: str = field(default_factory=lambda: secrets.token_hex(3))
    names: list[str] = field(default_factory=list)
    """Of apps that may be deployed when the session ends."""
    _deployed: dict[tuple[str, str], DeployedApp] = field(default_factory=dict)

    @property
    def emulator(self) -> Emulator:
        """The emulator itself: only for tests that are marked `emulator_only`."""
        assert self.running is not None, "mark this test with pytest.mark.emulator_only(reason)"
        return self.running

    def unique(self, name: str) -> str:
        """`name`, made this session's own: for what a test deploys itself. Stopped at the end of the session."""
        made = f"{name}-{self.session}"
        if made not in self.names:
            self.names.append(made)
        return made

    def cli(
        self,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,  # noqa: A002
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run `modal …` to its end, in the folder of the apps unless told. `env` is added to the environment."""
        environment = {**self.environment, **(env or {})}
        return self.server.run(*arguments, cwd=cwd or APPS, env=environment, stdin=input, timeout=timeout)

    def start(
        self,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,  # noqa: A002
    ) -> Command:
        """Start `modal …` and let it run: `with target.start("serve", "app.py") as serving: serving.wait_for(…)`."""
        return self.server.start(*arguments, cwd=cwd or APPS, env={**self.environment, **(env or {})}, stdin=input)

    def deploy(
        self, file: str, *, name: str | None = None, env: Mapping[str, str] | None = None, again: bool = False
    ) -> DeployedApp:
        """Deploy `apps/<file>`, once for each session (and `name`) unless `again`.

        Its name begins with `name`, or the file's own name, and is in `.name` of the answer.
        """
        key = (file, name or Path(file).stem.replace("_", "-"))
        if again or key not in self._deployed:
            called = self.unique(key[1])
            done = self.cli("deploy", "--name", called, file, env=env, timeout=DEPLOY_SECONDS)
            assert done.returncode == 0, done.stdout + done.stderr
            self._deployed[key] = DeployedApp(called, self)
        return self._deployed[key]

    def stop_apps(self) -> None:
        """Stop what this session may have left deployed."""
        for name in self.names:
            self.cli("app", "stop", "--yes", name)  # fails for those that are stopped already, which is fine


def for_emulator(emulator: Emulator) -> Target:
    environment = {**without_modal(), **PLAIN, **emulator.environment}
    return Target("emulator", environment, client_of(environment), cli_server(), running=emulator)


def client_of(environment: Mapping[str, str]) -> modal.Client:
    """A client of the server, and with the token, that the environment for a command names."""
    # The client reads its server from this process's own environment, which belongs to every test.
    before = os.environ.get("MODAL_SERVER_URL")
    os.environ["MODAL_SERVER_URL"] = environment["MODAL_SERVER_URL"]
    try:
        return modal.Client.from_credentials(environment["MODAL_TOKEN_ID"], environment["MODAL_TOKEN_SECRET"])
    finally:
        if before is None:
            del os.environ["MODAL_SERVER_URL"]
        else:
            os.environ["MODAL_SERVER_URL"] = before


def for_modal() -> Target:
    """The account that the `modal` command of this machine uses."""
    environment = {**os.environ, **PLAIN}
    return Target("modal", environment, modal.Client.from_env(), CliServer(environment))
