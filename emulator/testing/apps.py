"""An app in a test: found in a module or a file, deployed by the client in this process, and asked."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import modal

    from emulator.emulator import Emulator
    from emulator.testing.journal import Journal

Source: TypeAlias = "modal.App | ModuleType | str | os.PathLike[str]"
"""An app, the module that defines it, or the path of that module's file (`app.py`, or `app.py::name`)."""


class Modules:
    """Files imported as modules under their own name, as `modal deploy FILE` does, and taken back."""

    def __init__(self) -> None:
        self._before: dict[str, ModuleType | None] = {}
        self._paths: list[str] = []

    def load(self, path: Path) -> ModuleType:
        """The module of a file: the one that is imported already, else a new one. Raises what importing it raises."""
        path = path.resolve()
        name = path.stem
        present = sys.modules.get(name)
        if present is not None and _file(present) == path:
            return present
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise FileNotFoundError(f"no Python file at {path}")
        module = importlib.util.module_from_spec(spec)
        self._before.setdefault(name, present)
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
            self._paths.append(str(path.parent))
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    def restore(self) -> None:
        """Every name means again what it meant before."""
        for name, module in self._before.items():
            if module is not None:
                sys.modules[name] = module
            else:
                sys.modules.pop(name, None)
        self._before.clear()
        for path in self._paths:
            if path in sys.path:
                sys.path.remove(path)
        self._paths.clear()


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def find_app(module: ModuleType, name: str = "") -> modal.App:
    """The app of a module: the one of that name, else `app`, else its only one.

    Raises `LookupError` when there is none, or several.
    """
    import modal

    apps = {key: value for key, value in vars(module).items() if isinstance(value, modal.App)}
    wanted = name or "app"
    if wanted in apps:
        return apps[wanted]
    different = list({id(app): app for app in apps.values()}.values())
    if name or len(different) != 1:
        found = f"it has {', '.join(sorted(apps))}" if apps else "it has none"
        raise LookupError(f"{module.__name__} has no modal.App named {wanted!r}: {found}")
    return different[0]


@dataclass(frozen=True)
class RunningApp:
    """An app that is deployed to a test's emulator."""

    name: str
    """Under which it is deployed."""
    emulator: Emulator
    environment: str = "main"
    _journal: Journal | None = field(default=None, repr=False)

    @property
    def urls(self) -> Mapping[str, str]:
        """Web addresses: of functions and Servers by their name, of classes' methods by `Class.method`."""
        found = {}
        for tag, record in self._records().items():
            for method, url in record.urls.items():
                found[f"{tag}.{method}" if method else tag] = url
        return found

    def url(self, name: str = "") -> str:
        """The web address of a function, Server or `Class.method`; without a name, the only one.

        Raises `LookupError` when there is no such address.
        """
        urls = self.urls
        chosen = [url for key, url in urls.items() if not name or name in (key, key.partition(".")[0])]
        if name in urls:
            return urls[name]
        if len(chosen) != 1:
            raise LookupError(f"app {self.name!r} has no one web address {name!r}: it has {sorted(urls)}")
        return chosen[0]

    def function(self, name: str) -> modal.Function[Any, Any, Any]:
        """A function, as `modal.Function.from_name` gives it. Raises `LookupError` when the app has none such."""
        import modal

        self._require(name, f"function {name!r}", self._records())
        return modal.Function.from_name(self.name, name, environment_name=self.environment)

    def cls(self, name: str) -> modal.Cls:
        """A class, as `modal.Cls.from_name` gives it. Raises `LookupError` when the app has none such."""
        import modal

        self._require(name, f"class {name!r}", self._app().class_ids)
        return modal.Cls.from_name(self.name, name, environment_name=self.environment)

    def server(self, name: str) -> modal.Server:
        """A Server, as `modal.Server.from_name` gives it. Raises `LookupError` when the app has none such."""
        import modal

        servers = [tag for tag, record in self._records().items() if record.definition.is_server]
        self._require(name, f"Server {name!r}", servers)
        return modal.Server.from_name(self.name, name, environment_name=self.environment)

    def logs(self) -> str:
        """What its containers have written until now, each line with who wrote it."""
        return self._journal.text(app=self.name) if self._journal is not None else ""

    def _app(self) -> Any:
        found = self.emulator.core.state.deployed(self.name, self.environment)
        if found is None:
            raise LookupError(f"no app named {self.name!r} is deployed")
        return found

    def _records(self) -> dict[str, Any]:
        functions = self.emulator.core.state.functions
        return {tag.removesuffix(".*"): functions[key] for tag, key in list(self._app().function_ids.items())}

    def _require(self, name: str, what: str, present: Any) -> None:
        if name not in present:
            raise LookupError(f"app {self.name!r} has no {what}: it has {sorted(present)}")


class Deploy:
    """`deploy(app)`, or in asynchronous code `await deploy.aio(app)`."""

    def __init__(self, emulator: Emulator, journal: Journal, modules: Modules) -> None:
        self._emulator = emulator
        self._journal = journal
        self._modules = modules

    def __call__(self, app: Source, *, name: str | None = None, environment: str | None = None) -> RunningApp:
        """Deploy an app under its own name, or under `name`, as `modal deploy` does.

        Raises `LookupError` for a module without an app, and whatever the client raises. A path is relative to the
        current folder.
        """
        found = self._found(app)
        _elsewhere(lambda: found.deploy(name=name, environment_name=environment))
        return RunningApp(name or found.name or "", self._emulator, environment or "main", self._journal)

    async def aio(self, app: Source, *, name: str | None = None, environment: str | None = None) -> RunningApp:
        """The same without blocking the caller's loop."""
        return await asyncio.to_thread(self, app, name=name, environment=environment)

    def _found(self, app: Source) -> modal.App:
        import modal

        if isinstance(app, modal.App):
            return app
        if isinstance(app, ModuleType):
            return find_app(app)
        if isinstance(app, str | os.PathLike):
            path, _, name = os.fspath(app).partition("::")
            return find_app(self._modules.load(Path(path)), name)
        raise TypeError(f"deploy() takes a modal.App, a module or the path of a file, not {type(app).__name__}")


def _elsewhere(work: Callable[[], object]) -> None:
    """Run what blocks: where this thread runs a loop, in another one, since the client warns of blocking it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="emulator deploy")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
