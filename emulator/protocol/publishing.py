"""What is published of an app: definitions put in force together, and kept as versions that can be brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.addresses import addresses
from emulator.protocol.dispatch import failed_precondition
from emulator.protocol.options import rebind
from emulator.state import AppVersion, Definition, FunctionRecord, Staged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.protocol.addresses import Front
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import App, State

STAGINGS_KEPT = 8
"""Of one function: what deploys have made of it that may still be published."""
VERSIONS_KEPT = 100
"""Of one app: definitions that a rollback can bring back. Those that have not changed are held once."""


async def staged(
    front: Front, app: App, record: FunctionRecord, definition: api_pb2.Function, data: api_pb2.FunctionData
) -> Staged:
    """Fix the addresses that a function will have. They are served, and all the rest counts, once published."""
    wanted = tuple(addresses(app, record, definition))
    urls = {address.method: await front.reserve(address) for address in wanted}
    made = Staged(api_pb2.Function(), api_pb2.FunctionData(), wanted, urls, new_id("de"))
    made.definition.CopyFrom(definition)
    made.data.CopyFrom(data)
    _tell(made, front, record)
    record.stagings[made.definition_id] = made
    for oldest in list(record.stagings)[:-STAGINGS_KEPT]:
        del record.stagings[oldest]
    return made


def _tell(made: Staged, front: Front, record: FunctionRecord) -> None:
    """Write into a definition where it will be served."""
    definition = made.definition
    if definition.is_server:
        definition.flash_service_urls[:] = made.urls.values()
        return
    places: dict[str, api_pb2.Function | api_pb2.MethodDefinition] = {"": definition, **definition.method_definitions}
    for address in made.addresses:
        place = places[address.method]
        place.web_url = made.urls[address.method]
        place.web_url_info.label_stolen = front.holder(address.label) not in ("", record.function_id)
        del place.custom_domain_info[:]
        for domain in address.domains:
            place.custom_domain_info.add(url=front.domain_url(domain))


class Publisher:
    """Carries out what a deploy, a reload or a rollback decides."""

    def __init__(self, state: State, scheduler: Scheduler, front: Front) -> None:
        self._state = state
        self._scheduler = scheduler
        self._front = front

    def choose(self, definition_ids: Mapping[str, str]) -> None:
        """Of what several deploys have made at once, the one that asks publishes its own."""
        for function_id, definition_id in definition_ids.items():
            record = self._state.functions[function_id]
            if (made := record.stagings.get(definition_id)) is not None:
                record.staged = made
            elif definition_id != record.definition_id:
                raise failed_precondition(f"Other deploys have replaced {record.tag} meanwhile: deploy again")

    async def put_in_force(self, app: App, function_ids: dict[str, str], class_ids: dict[str, str]) -> None:
        """These functions are the app's from now on: new definitions count, what is not among them ends."""
        removed = set(app.function_ids.values()) - set(function_ids.values())
        app.function_ids, app.class_ids = function_ids, class_ids
        records = [self._state.functions[function_id] for function_id in function_ids.values()]
        # Addresses first: a container that starts is told of all of them.
        for record in records:
            if (made := record.staged) is not None:
                record.staged = None
                record.stagings.pop(made.definition_id, None)
                record.definition_id = made.definition_id
                record.definition, record.data, record.urls = made.definition, made.data, dict(made.urls)
                record.version += 1
                await self._front.publish(record, made.addresses)
        for record in records:
            self._scheduler.published(record)
            for bound in self._bound_to(record.function_id):
                rebind(bound, record)
                self._scheduler.published(bound)
        if app.state == api_pb2.APP_STATE_DEPLOYED:
            self._scheduler.timers.follow(records, since=app.deployed_at)
        for function_id in removed:
            await self._remove(function_id)
        await self.drop_staged(app)

    def _bound_to(self, function_id: str) -> list[FunctionRecord]:
        """Functions made from that one by parameters or options, and those made from these."""
        direct = [record for record in self._state.functions.values() if record.base_function_id == function_id]
        return direct + [further for record in direct for further in self._bound_to(record.function_id)]

    async def drop_staged(self, app: App) -> None:
        """Forget what a deploy has made and not published."""
        for record in [r for r in self._state.functions.values() if r.app_id == app.app_id and r.staged is not None]:
            record.staged = None
            await self._front.give_up(record.function_id)
            if not record.version:
                await self._remove(record.function_id)

    async def _remove(self, function_id: str) -> None:
        for record in [self._state.functions[function_id], *self._bound_to(function_id)]:
            del self._state.functions[record.function_id]
            await self._front.withdraw(record.function_id)
            await self._scheduler.remove(record)
            self._scheduler.forget_calls([record.function_id])

    # Versions

    def version_of(self, app: App, function_ids: dict[str, str], class_ids: dict[str, str]) -> AppVersion:
        """What these functions are: as staged where a deploy has made something new of them, else as they are."""
        known = app.versions.get(app.version)
        return AppVersion(
            dict(function_ids),
            dict(class_ids),
            {
                function_id: self._definition(self._state.functions[function_id], known)
                for function_id in function_ids.values()
            },
        )

    @staticmethod
    def _definition(record: FunctionRecord, known: AppVersion | None) -> Definition:
        before = known.definitions.get(record.function_id) if known is not None else None
        if record.staged is None and before is not None:
            return before  # what is in force may carry overrides of the autoscaler, which belong to no version
        source = record.staged or record
        if before is not None and (before.definition, before.data) == (source.definition, source.data):
            return before
        made = Definition(record.tag, api_pb2.Function(), api_pb2.FunctionData())
        made.definition.CopyFrom(source.definition)
        made.data.CopyFrom(source.data)
        return made

    @staticmethod
    def keep(app: App, number: int, version: AppVersion) -> None:
        """Keep a version to roll back to; the oldest give way, but never the one in force."""
        app.versions[number] = version
        for old in sorted(app.versions)[:-VERSIONS_KEPT]:
            if old != app.version:
                del app.versions[old]

    async def bring_back(self, app: App, version: AppVersion) -> None:
        """Stage what a version consists of, so that it can be put in force."""
        for function_id, kept in version.definitions.items():
            record = self._state.functions.get(function_id)
            if record is None:  # a later version had no such function
                record = self._state.functions[function_id] = FunctionRecord(function_id, app.app_id, kept.tag)
            record.staged = await staged(self._front, app, record, kept.definition, kept.data)
