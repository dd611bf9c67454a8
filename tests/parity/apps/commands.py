import sys
from datetime import datetime
from typing import Literal

import modal

app = modal.App("commands")


@app.function()
def greet(name: str, times: int = 1) -> str:
    print(f"greeting {name}")
    print("a remark", file=sys.stderr)
    return " ".join([f"hello {name}"] * times)


@app.function()
def fail() -> None:
    print("about to fail")
    secret_of_the_traceback = {}["no such thing"]
    print(secret_of_the_traceback)


@app.function()
def raw() -> bytes:
    return b"\x00\x01\xff"


@app.function()
def number() -> int:
    return 7


@app.function()
def pieces() -> None:
    sys.stdout.write("one, ")
    sys.stdout.flush()
    sys.stdout.write("two\n\x1b[32mgreen\x1b[0m\n")
    sys.stdout.write("without an end")
    sys.stdout.flush()


@app.cls()
class Greeter:
    greeting: str = modal.parameter(default="good day")

    @modal.method()
    def greet(self, name: str = "nobody") -> None:
        print(f"{self.greeting}, {name}")

    @modal.exit()
    def leave(self) -> None:
        print("the last words")


@app.local_entrypoint()
def main() -> None:
    print("RETURNED", greet.remote("main"))


@app.local_entrypoint()
def typed(
    text: str,
    count: int,
    share: float = 0.5,
    loud: bool = False,
    when: datetime = datetime(2000, 1, 1),
    maybe: int | None = None,
    color: Literal["red", "green"] = "red",
    level: Literal[1, 2] = 1,
    anything=None,
) -> None:
    print("TYPED", [text, count, share, loud, when.isoformat(), maybe, color, level, anything])


@app.local_entrypoint()
def variadic(*words: str) -> None:
    print("WORDS", words)


@app.local_entrypoint()
async def asynchronous() -> None:
    print("AWAITED", await greet.remote.aio("async"))


@app.local_entrypoint()
def fail_here() -> None:
    raise ValueError("of the caller's own")


@app.local_entrypoint()
def fail_there() -> None:
    fail.remote()
