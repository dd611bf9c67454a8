"""The settings of the service: one frozen object, resolved once where the service is deployed or started.

The sections and keys are those of the service's configuration file (`config.example.toml` documents each of them).
`infra.configuration` reads them from TOML and the environment.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.access import ApiKey as ApiKey
from infra.access import Guards as Guards
from infra.access import KeyScope as KeyScope
from infra.access import Limits as Limits
from infra.access import Security as Security
from infra.batching import Batches as Batches
from infra.batching import Files as Files
from infra.health import Health as Health
from infra.keeping import Jobs as Jobs
from infra.keeping import State as State
from infra.measuring import Measuring as Measuring
from infra.metering import Prices as Prices
from infra.metering import Usage as Usage
from infra.models import DEMO_MODEL as DEMO_MODEL
from infra.models import DEMO_MODEL_FOLDER as DEMO_MODEL_FOLDER
from infra.models import Counts as Counts
from infra.models import Device as Device
from infra.models import EngineKind as EngineKind
from infra.models import Model as Model
from infra.models import Models as Models
from infra.models import Pooling as Pooling
from infra.models import Quantization as Quantization
from infra.models import Scaling as Scaling
from infra.models import Target as Target
from infra.observing import Observability as Observability
from infra.responses import Responses as Responses
from infra.section import Section
from infra.sglang_checks import objections_anywhere

Domain = Annotated[str, Field(pattern=r"^(\*\.)?([a-z0-9-]{1,63}\.)+[a-z]{2,63}$")]
LogLevel = Literal["trace", "debug", "info", "warn", "error"]


class Server(Section):
    """Where the service listens when it runs on this machine, and what it logs."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3000
    log_level: LogLevel = "info"

    @property
    def python_log_level(self) -> str:
        """The level as the standard library's logging calls it."""
        return {"trace": "DEBUG", "warn": "WARNING"}.get(self.log_level, self.log_level.upper())


class WebScaling(Counts):
    """The same for the web endpoint."""

    max_containers: Annotated[int, Field(ge=1)] = 4
    """However much is asked."""


class Sessions(Section):
    """Chats that the service remembers."""

    system_prompt: str = "You are a helpful AI assistant."
    """Begins a session unless its caller sets another."""
    context_messages: Annotated[int, Field(ge=1)] = 20
    """How many messages of a session the model sees at most, beside the system prompt."""
    history_messages: Annotated[int, Field(ge=2)] = 1000
    """How many a session keeps at most; the oldest go first."""
    turn_wait_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long a second turn waits for the one that is under way on its session; then 409."""


class Socket(Section):
    """`/chat/ws`."""

    idle_seconds: Annotated[float, Field(gt=0)] = 300.0
    """After which a WebSocket on which nothing is answered and nothing comes is closed."""
    max_frame_bytes: Annotated[int, Field(ge=256)] = 1024 * 1024
    """A longer frame of a client is answered by an error."""
    max_queued_prompts: Annotated[int, Field(ge=0)] = 8
    """Prompts that may wait on one WebSocket while another is answered."""


class Web(Section):
    """The web endpoint's containers and patience. All times are in seconds."""

    max_concurrent_requests: Annotated[int, Field(ge=1, le=1000)] = 200
    """Requests and WebSockets that one web container serves at once."""
    timeout: Annotated[int, Field(ge=60, le=86400)] = 3600
    """The longest that one request or WebSocket may last."""
    boot_deadline: Annotated[float, Field(gt=0)] = 1800.0
    """How long a streaming caller is kept waiting (with comments) for an engine to boot."""
    plain_deadline: Annotated[float, Field(gt=0, lt=150)] = 120.0
    """How long a plain caller waits for an engine to boot: below the 150 s after which Modal redirects."""
    plain_keepalive_after: Annotated[float, Field(gt=0, lt=150)] = 100.0
    """When a plain answer under way begins with white space, for the same reason."""
    queue_timeout: Annotated[float, Field(gt=0)] = 60.0
    """How long a caller waits for a place at a model whose engines are up and busy."""
    request_deadline: Annotated[float, Field(gt=0)] | None = None
    """The longest that one answer may take, waiting included; `timeout` less 30 s unless set."""
    write_timeout: Annotated[float, Field(gt=0)] = 120.0
    """How long a caller may take nothing of an answer before the connection is cut and the engine freed."""
    receive_timeout: Annotated[float, Field(gt=0)] = 60.0
    """How long a request may take to come, where the service has a port of its own; a body that comes at 16 KiB a
    second or more has as long as it takes."""
    drain_seconds: Annotated[float, Field(ge=0)] = 25.0
    """How long what is under way may still take once the server was told to stop."""
    heartbeat_interval: Annotated[float, Field(gt=0, le=15)] = 10.0
    """The longest silence on a stream."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 20 * 1024 * 1024
    coalesce_seconds: Annotated[float, Field(ge=0, le=0.01)] = 0.005
    """How long events that come close together may wait for each other: Modal's bridge costs CPU for each write."""
    scaling: WebScaling = WebScaling()

    @property
    def deadline(self) -> float:
        """Seconds that one answer may take: short enough to be told before the platform ends the request."""
        return self.request_deadline or self.timeout - 30.0


class Deploy(Section):
    """What the Modal app is called and where it is deployed."""

    app_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] = "llm"
    target: Target = "modal"
    """`local` puts every model's `local_engine` in the place of its engine: for the emulator, tests and standalone."""
    web: Literal["function", "server"] = "function"
    """What the web endpoint is on Modal: a web function, whose requests wait while its container boots, or a Server
    (uvicorn on a port, nothing in between), which answers 503 then: for who keeps a container warm."""
    custom_domains: tuple[Domain, ...] = ()
    """Domains of yours, registered with Modal, at which the web function answers too. A Server has none."""
    first_port: Annotated[int, Field(ge=1024, le=65000)] = 8000
    """Where the web endpoint listens in its container, as a Server; each model's engine has one of the ports that
    follow. Modal's containers do not care: it is for machines whose containers share one network."""


class Settings(Section):
    """Everything that can be configured."""

    server: Server = Server()
    models: Models = Models()
    health: Health = Health()
    security: Security = Security()
    limits: Limits = Limits()
    sessions: Sessions = Sessions()
    state: State = State()
    jobs: Jobs = Jobs()
    files: Files = Files()
    batches: Batches = Batches()
    responses: Responses = Responses()
    socket: Socket = Socket()
    guards: Guards = Guards()
    usage: Usage = Usage()
    observability: Observability = Observability()
    metrics: Measuring = Measuring()
    web: Web = Web()
    deploy: Deploy = Deploy()

    @model_validator(mode="after")
    def _keys_name_models_that_are_there(self) -> Self:
        for key in self.security.api_keys:
            for label in key.models:
                if self.models.find(label) is None:
                    raise ValueError(f"the API key {key.name!r} names a model that is not configured: {label!r}")
        return self

    @model_validator(mode="after")
    def _engines_can_see(self) -> Self:
        for model in self.models.available_models:
            if model.vision and model.engine_for(self.models, self.deploy.target) == "llamacpp":
                raise ValueError(
                    f"model {model.id!r} has vision = true, and llama.cpp is run without a projector here: "
                    "serve it with sglang, or set vision = false"
                )
        return self

    @model_validator(mode="after")
    def _engines_can_do_what_is_asked(self) -> Self:
        for model in self.models.available_models:
            for objection in objections_anywhere(model, self.models, target=self.deploy.target):
                raise ValueError(f"model {model.id!r}: {objection}")
        return self

    @model_validator(mode="after")
    def _a_web_server_has_no_domains(self) -> Self:
        if self.deploy.web == "server" and self.deploy.custom_domains:
            raise ValueError(
                'deploy.custom_domains are of web functions: expected deploy.web = "function", or none of them'
            )
        return self

    @model_validator(mode="after")
    def _a_web_server_is_kept_warm(self) -> Self:
        if self.deploy.web == "server" and not self.web.scaling.min_containers:
            raise ValueError(
                'deploy.web = "server" answers 503 whenever no container runs; expected web.scaling.min_containers '
                'of 1 or more, or deploy.web = "function"'
            )
        return self

    @property
    def table_name(self) -> str:
        """Of the table that holds this app's state."""
        return self.state.table or f"{self.deploy.app_name}-state"

    @property
    def bucket_name(self) -> str:
        """Of the bucket that holds what is large. Buckets' names have no capitals."""
        return self.state.bucket or re.sub(r"[^a-z0-9.-]", "-", f"{self.deploy.app_name}-state".lower())

    def without_secrets(self) -> Settings:
        """The same settings, free of secrets: what may travel in an image or an environment variable."""
        models = self.models.model_copy(update={"hf_token": None})
        security = self.security.model_copy(update={"api_keys": ()})
        return self.model_copy(update={"models": models, "security": security})
