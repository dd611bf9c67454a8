"""The client's container runtime in several threads of one process: what of its own it must then not share.

`install` adapts it, once for a process; `run_container` is a container, in a thread that has its identity.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from emulator.containers.compat.objects import separate_objects
from emulator.containers.compat.pickles import find_own_classes
from emulator.containers.thread.identity import current
from emulator.containers.thread.streams import route
from emulator.virtual_clock.inside import starting_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.containers.thread.identity import Identity
    from emulator.containers.thread.patching import Patches

_CLIENT = "client"


def install(patches: Patches) -> None:
    """Adapt the client of this process. Starts the client's own thread, as nobody's but the process's."""
    from modal import _container_entrypoint as entry
    from modal._runtime import asgi, execution_context, user_code_imports
    from modal._runtime.container_io_manager import ContainerIOManager, _ContainerIOManager
    from modal._runtime.task_lifecycle_manager import _TaskLifecycleManager
    from modal._utils.async_utils import synchronizer
    from modal.app import _App
    from modal.client import Client, _Client

    loop = synchronizer._get_loop(start=True)
    # Its pool too is to be nobody's but the process's.
    asyncio.run_coroutine_threadsafe(asyncio.to_thread(lambda: None), loop).result()
    for manager in (_TaskLifecycleManager, _ContainerIOManager):
        _one_for_each_container(manager, patches)
    separate_objects(patches)
    find_own_classes(patches)
    before = _Client._client_from_env
    patches.later(lambda: _Client._set_env_client(before))
    patches.put(_Client, "from_env", _ClientOfContainer(_Client.from_env))
    patches.put(Client, "from_env", _ClientOfContainer(Client.from_env, translate=synchronizer._translate_out))
    # A breakpoint is the test's own debugger, not a shell in the container.
    patches.put(ContainerIOManager, "_install_breakpoint_hook", lambda _self: None)
    patches.wrap(user_code_imports, "call_lifecycle_functions", _unless_killed)
    patches.wrap(execution_context, "_set_current_context_ids", _routed)
    patches.wrap(asgi, "get_ip_address", _loopback_without_network)
    patches.wrap(entry.DaemonizedThreadPool, "__exit__", _leave_pool)
    patches.wrap(entry.DaemonizedThreadPool, "submit", _submit_to_pool)
    importing: ContextVar[bool] = ContextVar("emulator_importing", default=False)
    patches.put(execution_context, "_import_context", lambda: _set(importing))
    patches.put(execution_context, "_in_import_context", importing.get)
    patches.put(_App, "_all_apps", _Apps(_App._all_apps))
    patches.wrap(_App, "_init_container", _container_app)
    patches.put(_App, "_get_container_app", classmethod(lambda _cls: _own("container_app")))


def run_container(arguments: bytes) -> int:
    """Be the container of the current identity until it is done. Returns the exit status."""
    from modal._container_entrypoint import UserException, main  # type: ignore[attr-defined]
    from modal._utils import async_utils
    from modal.client import Client
    from modal_proto import api_pb2

    identity = current()
    assert identity is not None
    url = identity.environment[b"MODAL_SERVER_URL"].decode()
    synchronizer: Any = async_utils.synchronizer
    client: Any = Client(url, api_pb2.CLIENT_TYPE_CONTAINER, None)
    with client:
        identity.own[_CLIENT] = synchronizer._translate_in(client)
        try:
            main(api_pb2.ContainerArguments.FromString(arguments), client)
        except (UserException, KeyboardInterrupt):
            return 0
    return 0


def module_of(arguments: bytes) -> str:
    """The module that a container imports its function from; empty for one that is serialized."""
    from modal_proto import api_pb2

    definition = api_pb2.ContainerArguments.FromString(arguments).function_def
    serialized = definition.definition_type == api_pb2.Function.DEFINITION_TYPE_SERIALIZED
    return "" if serialized else definition.module_name


def cut_off(identity: Identity) -> None:
    """Have a container's client neither send nor receive anything from now on. From any thread; does not wait."""
    from modal._utils.async_utils import synchronizer

    client = identity.own.get(_CLIENT)
    loop = synchronizer._get_loop(start=False)
    if client is None or loop is None:
        return
    client._closed = True  # before what is under way is cancelled
    if client._cancellation_context is not None:
        client._cancellation_context._grace = None

    def close() -> None:
        task = loop.create_task(client.close())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    with contextlib.suppress(RuntimeError):  # the process is ending
        loop.call_soon_threadsafe(close)


def _own(name: str) -> Any:
    identity = current()
    return None if identity is None else identity.own.get(name)


class _Singleton:
    """Stands for a class's `_singleton`: the container's."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, _instance: object, _owner: type) -> Any:
        return _own(self._name)


def _one_for_each_container(manager: Any, patches: Patches) -> None:
    """Its constructor keeps what it made as the class's: here, as the container's."""
    name = manager.__name__

    def new(cls: Any, *args: Any, **named: Any) -> Any:
        made = object.__new__(cls)
        made._init(*args, **named)
        identity = current()
        if identity is not None:
            identity.own[name] = made
        return made

    patches.put(manager, "_singleton", _Singleton(name))
    patches.put(manager, "__new__", staticmethod(new))


class _ClientOfContainer:
    """`Client.from_env`: in a container its own client, which is not to be anybody else's."""

    def __init__(self, original: Any, translate: Callable[[Any], Any] = lambda client: client) -> None:
        self._original = original
        self._translate = translate

    def __call__(self, *args: Any, **named: Any) -> Any:
        client = _own(_CLIENT)
        if client is None:
            return self._original(*args, **named)
        return self._translate(client) if hasattr(self._original, "aio") else _at_once(client)

    def aio(self, *args: Any, **named: Any) -> Any:
        client = _own(_CLIENT)
        return self._original.aio(*args, **named) if client is None else _at_once(self._translate(client))


async def _at_once(value: Any) -> Any:
    return value


def _unless_killed(original: Callable[..., None]) -> Callable[..., None]:
    """A container that was killed runs no exit handlers, though its thread leaves by an exception."""

    def call(*args: Any, **named: Any) -> None:
        identity = current()
        if identity is None or not identity.dead:
            route()
            original(*args, **named)

    return call


def _routed(original: Callable[..., Any]) -> Callable[..., Any]:
    """Called where an input begins: what it prints is to go to the container's log."""

    def call(*args: Any, **named: Any) -> Any:
        route()
        return original(*args, **named)

    return call


def _loopback_without_network(original: Callable[[bytes], str]) -> Callable[[bytes], str]:
    """A `web_server` is looked for at the address of `eth0`, which a laptop has not."""

    def address(ifname: bytes) -> str:
        try:
            return original(ifname)
        except OSError:
            return "127.0.0.1"

    return address


def _leave_pool(original: Callable[..., None]) -> Callable[..., None]:
    """Its workers look once a second whether they are to end: wake them."""

    def leave(self: Any, *error: Any) -> None:
        original(self, *error)
        for _ in range(self.spawned_workers):
            self.inputs.put((lambda: None, ()))

    return leave


def _submit_to_pool(original: Callable[..., None]) -> Callable[..., None]:
    """Its workers' looking is nothing that the container does; what they are given is."""

    def submit(self: Any, function: Callable[..., Any], *args: Any) -> None:
        identity = current()
        job = function if identity is None or identity.inside is None else identity.inside.job(function)
        with starting_workers():
            original(self, job, *args)

    return submit


def loops() -> list[asyncio.AbstractEventLoop]:
    """The client's own, on which the requests of all containers of this process run."""
    from modal._utils.async_utils import synchronizer

    loop = synchronizer._get_loop(start=False)
    return [] if loop is None else [loop]


@contextlib.contextmanager
def _set(flag: ContextVar[bool]) -> Iterator[None]:
    token = flag.set(True)
    try:
        yield
    finally:
        flag.reset(token)


class _Apps(dict[Any, Any]):
    """`_App._all_apps`: of a container that has modules of its own, those that they made."""

    def __init__(self, process: dict[Any, Any]) -> None:
        super().__init__()
        self._process = process

    @property
    def _seen(self) -> dict[Any, Any]:
        identity = current()
        if identity is None or "modules" not in identity.own:
            return self._process
        found: dict[Any, Any] = identity.own.setdefault("apps", {})
        return found

    def get(self, name: Any, default: Any = None) -> Any:
        return self._seen.get(name, default)

    def setdefault(self, name: Any, default: Any = None) -> Any:
        return self._seen.setdefault(name, default)

    def __getitem__(self, name: Any) -> Any:
        return self._seen[name]

    def __setitem__(self, name: Any, value: Any) -> None:
        self._seen[name] = value


def _container_app(original: Callable[..., None]) -> Callable[..., None]:
    def init_container(self: Any, *args: Any) -> None:
        identity = current()
        kind = type(self)
        before = kind._container_app
        original(self, *args)
        kind._container_app = before
        if identity is not None:
            identity.own["container_app"] = self

    return init_container


def log_handlers() -> list[Any]:
    """Those by which the client logs, to whatever was stderr when it was imported."""
    loggers = (logging.getLogger(name) for name in ("modal-client", "modal-utils"))
    return [handler for logger in loggers for handler in logger.handlers if type(handler) is logging.StreamHandler]
