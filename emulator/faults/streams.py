"""What is streamed to a caller, on a connection that breaks on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from grpclib import GRPCError, Status

from emulator.ingress.cuts import Cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from emulator.faults.plans import GeneratorFault, Plans
    from emulator.state import FunctionRecord

_Item = TypeVar("_Item")


async def broken_off(
    batches: AsyncIterator[Sequence[_Item]], fault: GeneratorFault | None
) -> AsyncIterator[Sequence[_Item]]:
    """The batches, up to where the fault strikes. Raises `GRPCError` there, as for a connection that is lost."""
    passed = 0
    async for batch in batches:
        before, passed = passed, passed + len(batch)
        if fault is not None and before < fault.after <= passed and fault.strike():
            yield batch[: fault.after - before]
            raise GRPCError(Status.UNAVAILABLE, "the connection was lost, as planned")
        yield batch


def planned_cut(plans: Plans, record: FunctionRecord | None) -> Cut | None:
    """Where the answer to a web request that comes now is to break off."""
    fault = plans.stream(record) if record is not None else None
    return Cut(fault.unit, fault.after, fault.strike) if fault is not None else None
