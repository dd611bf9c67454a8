"""What each caller's server knows of the RPCs: a container has one of its own, which costs it what it calls."""

from __future__ import annotations

from emulator.protocol.dispatch import SERVICE, Caller, Dispatcher
from emulator.protocol.grpc import GrpcServer

PREFIX = f"/{SERVICE.full_name}/"


async def test_a_server_makes_routes_as_they_are_called_and_none_that_the_service_has_not() -> None:
    routes = Dispatcher([], print).servable(Caller("ta-1")).__mapping__()
    assert not routes
    found = routes.get(PREFIX + "FunctionMap")
    assert found is not None
    assert found.request_type.__name__ == "FunctionMapRequest"
    assert routes.get(PREFIX + "FunctionMap") is found
    for unknown in (PREFIX + "NoSuchCall", "/other.Service/FunctionMap", "FunctionMap", ""):
        assert routes.get(unknown) is None
    assert list(routes) == [PREFIX + "FunctionMap"]


async def test_the_server_looks_in_the_very_mapping_that_grows() -> None:
    servable = Dispatcher([], print).servable(Caller("ta-1"))
    assert GrpcServer(servable)._mapping is servable.__mapping__()
