"""What a function's code finds around it: variables, secrets, its own source."""

import os
import socket

import modal

app = modal.App("surroundings")
NAMED = os.environ.get("PARITY_SECRET", "parity-secret")


@app.function(
    env={"GIVEN": "by env", "BOTH": "env", "LEFT_OUT": None},
    secrets=[
        modal.Secret.from_dict({"FROM_DICT": "d", "BOTH": "secret", "NOTHING": None}),
        modal.Secret.from_dotenv(__file__, filename="surroundings.env"),
        modal.Secret.from_local_environ(["PARITY_LOCAL"]),
        modal.Secret.from_name(NAMED, required_keys=["NAMED"]),
    ],
)
def variable(name: str) -> str | None:
    return os.environ.get(name)


@app.function(cpu=2.0, env={"MODAL_TASK_ID": "mine", "MODAL_REGION": "mine"})
def variables() -> dict[str, str]:
    return dict(os.environ)


@app.function(include_source=False, serialized=True, name="without_source")
def without_source() -> bool:
    import importlib.util

    return importlib.util.find_spec("surroundings") is not None


@app.function()
def with_source() -> str:
    return __file__


def made_here(n: int):
    """A function that has no name in its module: only its pickle can be sent."""

    @app.function(serialized=True, name=f"adds_{n}")
    def adds(to: int) -> int:
        return n + to

    return adds


made_here(2)
made_here(40)


@app.function(block_network=True, max_containers=1)
def blocked(payload: bytes, host: str, port: int) -> tuple[int, str]:
    """How much it was given, and what became of a connection."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return len(payload), type(error).__name__
    return len(payload), "connected"


@app.function(_experimental_restrict_output=True)
def restricted(kind: str) -> object:
    return {"plain": [1, "two", None], "object": object()}[kind]


def lists(k: int):
    return iter(range(k))


@app.function(is_generator=True)
def declared(k: int):
    yield from lists(k)
