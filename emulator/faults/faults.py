"""What a test says to have something go wrong: `emulator.faults`, or the fixture `faults`. See docs/testing.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.faults.aws import ERRORS, OPERATIONS, SILENT, THROTTLE
from emulator.faults.plans import (
    AwsFault,
    BootFault,
    DeathAtInput,
    Fault,
    FunctionFault,
    GeneratorFault,
    StreamFault,
    Unit,
)

if TYPE_CHECKING:
    from emulator.emulator import Emulator
    from emulator.faults.plans import Plans, Service


class Faults:
    """Plans faults, and kills. `function` is a function's, a class's or a Server's name; `app` where several have it.

    What is planned strikes `times` times (`None`: until it is lifted). Each returns its `Fault`: `.struck` counts,
    `.lift()` ends it. Raises `LookupError` for a function that no app has which is deployed by then.
    """

    def __init__(self, emulator: Emulator, plans: Plans) -> None:
        self._emulator = emulator
        self._plans = plans

    # Containers

    def kill(self, function: str, *, app: str = "") -> list[str]:
        """SIGKILL the function's containers that are there now: their ids. Raises `LookupError` when there is none."""
        found = self._emulator.containers(app=app or None, function=function)
        if not found:
            raise LookupError(f"{function!r} has no container")
        killed = []
        for container in found:
            try:
                self._emulator.kill_container(container.task_id)
            except LookupError:
                continue  # it has left by itself meanwhile
            killed.append(container.task_id)
        return killed

    def kill_at_input(self, function: str, n: int = 1, *, times: int | None = 1, app: str = "") -> Fault:
        """SIGKILL a container as it is given its `n`th input (a Server's: its `n`th request), counted from now on."""
        if n < 1:
            raise ValueError(f"n={n}: inputs are counted from 1")
        return self._plan(DeathAtInput(function=function, app=app, nth=n, times=times))

    def fail_boot(self, function: str, *, times: int | None = 1, exit_code: int = 1, app: str = "") -> Fault:
        """The next `times` containers end with `exit_code` (negative: by that signal) instead of starting."""
        return self._plan(BootFault(function=function, app=app, exit_code=exit_code, times=times))

    def slow_boot(self, function: str, seconds: float, *, times: int | None = 1, app: str = "") -> Fault:
        """The next `times` containers start `seconds` later, which count towards their start-up limit."""
        return self._plan(BootFault(function=function, app=app, seconds=seconds, times=times))

    # Streams

    def drop_stream(
        self,
        function: str,
        *,
        after_bytes: int | None = None,
        after_events: int | None = None,
        after_messages: int | None = None,
        times: int | None = 1,
        app: str = "",
    ) -> Fault:
        """Cut connections of a web function or Server in the middle of an answer.

        After so many bytes of the body, so many server-sent events, or so many messages to the client of a WebSocket:
        one of the three. The container sees its client leave.
        """
        units: dict[Unit, int | None] = {"bytes": after_bytes, "events": after_events, "messages": after_messages}
        chosen = [(unit, after) for unit, after in units.items() if after is not None]
        if len(chosen) != 1:
            raise ValueError("say one of after_bytes, after_events and after_messages")
        unit, after = chosen[0]
        return self._plan(StreamFault(function=function, app=app, unit=unit, after=after, times=times))

    def drop_generator(self, function: str, *, after_items: int, times: int | None = 1, app: str = "") -> Fault:
        """Break the connection on which a generator's caller reads, after so many items. The client reads on."""
        return self._plan(GeneratorFault(function=function, app=app, after=after_items, times=times))

    # S3 and DynamoDB

    def s3(
        self, error: str, *, operation: str = "", times: int | None = None, share: float | None = None, seed: int = 0
    ) -> Fault:
        """Requests to S3 fail: once, `times` times, or a `share` of them (up to 1, drawn from `seed`).

        `error`: "throttle", an error code ("SlowDown", "InternalError"), "timeout" (no answer), or "lost" (carried
        out, and then no answer). `operation`: "PutObject"; else all.
        """
        return self._aws("s3", error, operation, times, share, seed)

    def dynamodb(
        self, error: str, *, operation: str = "", times: int | None = None, share: float | None = None, seed: int = 0
    ) -> Fault:
        """The same for DynamoDB: "ProvisionedThroughputExceededException", operation="UpdateItem"."""
        return self._aws("dynamodb", error, operation, times, share, seed)

    def clear(self) -> None:
        """Lift every fault."""
        self._plans.clear()

    def _aws(
        self, service: Service, error: str, operation: str, times: int | None, share: float | None, seed: int
    ) -> Fault:
        code = THROTTLE[service] if error == "throttle" else error
        if code not in (*SILENT, *ERRORS[service]):
            known = ", ".join(("throttle", *SILENT, *ERRORS[service]))
            raise ValueError(f"{error!r} is no error of {service} here: use {known}")
        if operation and operation not in OPERATIONS[service]:
            raise ValueError(
                f"{operation!r} is no operation of {service}: use {', '.join(sorted(OPERATIONS[service]))}"
            )
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"share={share}: above 0, up to 1")
        if times is None and share is None:
            times = 1
        fault = AwsFault(
            service=service,
            code=code,
            operation=operation,
            times=times,
            share=1.0 if share is None else share,
            seed=seed,
        )
        self._plans.add(fault)
        return fault

    def _plan(self, fault: FunctionFault) -> Fault:
        state = self._emulator.core.state
        live = [app for app in list(state.apps.values()) if app.live and fault.app in ("", app.name or app.description)]
        names = {tag.removesuffix(".*") for app in live for tag in app.function_ids}
        if names and fault.function not in names:
            raise LookupError(f"no app that is deployed has a function {fault.function!r}: there are {sorted(names)}")
        self._plans.add(fault)
        return fault
