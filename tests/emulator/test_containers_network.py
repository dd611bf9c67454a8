"""The network of a container: ports of its own where the machine allows, ways out of it, and dialling in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from emulator.containers import choose_runtime
from emulator.containers.base import ContainerStartError
from emulator.containers.forward import parse_request
from emulator.containers.isolation import Isolation, detect
from tests.emulator.containers_kit import WITHIN, Output, machine, spec_of
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.containers.base import Container
    from emulator.containers.runtime import SupervisedRuntime

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["MODAL_TASK_ID"].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
def go():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    print("listening", flush=True); server.serve_forever()
"""

FETCH = """
import os, urllib.request
def go():
    for url in os.environ["URLS"].split():
        try:
            print("got", urllib.request.urlopen(url, timeout=30).read().decode(), flush=True)
        except OSError as error:
            print("got", type(error).__name__, error, flush=True)
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["as found", "user"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[SupervisedRuntime]:
    found = await detect(request.getfixturevalue("tmp_path_factory").mktemp("probe"))
    if not found.private_network:
        pytest.skip(found.describe())
    isolation = found if request.param == "as found" else Isolation(request.param, private_network=True)
    runtime: Any = choose_runtime("zygote", entry="user_code:go", machine=machine(), isolation=isolation)
    yield runtime
    await runtime.close()


@pytest_asyncio.fixture(loop_scope="module")
async def host_port() -> AsyncIterator[int]:
    """A server of this machine that answers every request with `from the host`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nfrom the host")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def get(container: Container, port: int) -> bytes:
    connection = await container.dial(port)
    reader, writer = await asyncio.open_connection(sock=connection)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.rpartition(b"\r\n\r\n")[2]


async def serving(
    runtime: SupervisedRuntime, folder: Path, port: int, task_id: str = "ta-1", *, private: bool = True
) -> Container:
    output = Output()
    code = SERVER.replace("PORT", str(port))
    container = await runtime.start(
        spec_of(folder, code, task_id=task_id, private_network=private, fixed_ports=[port]), output.on_output
    )
    await output.line("listening")
    return container


async def end(*containers: Container) -> None:
    for container in containers:
        container.kill()
        await container.wait()


async def test_several_servers_bind_the_same_port_and_each_is_reached(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    containers = [await serving(runtime, tmp_path, 8000, f"ta-{n}") for n in range(3)]
    for _ in range(5):  # more dials than are kept ready
        assert [await get(container, 8000) for container in containers] == [b"ta-0", b"ta-1", b"ta-2"]
    await end(*containers)


async def test_dialling_a_port_where_nothing_listens_is_refused(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    container = await serving(runtime, tmp_path, 8000)
    with pytest.raises(ConnectionRefusedError):
        await container.dial(8001)
    await end(container)
    for _ in range(6):
        with pytest.raises(ConnectionRefusedError):
            await container.dial(8000)


async def test_a_private_network_does_not_reach_the_machines_ports_unless_they_are_shared(
    runtime: SupervisedRuntime, tmp_path: Path, host_port: int
) -> None:
    for shared, expected in (((), "URLError"), ((host_port,), "from the host")):
        output = Output()
        environment = {"URLS": f"http://127.0.0.1:{host_port}/"}
        spec = spec_of(tmp_path, FETCH, environment=environment, private_network=True, shared_ports=shared)
        container = await runtime.start(spec, output.on_output)
        assert (await output.line("got")).startswith(expected), output.text
        await container.wait()


SURROUNDED = """
import os
def go():
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]
    print("proxies", proxies, flush=True)
"""


async def test_a_blocked_network_has_its_shared_ports_and_no_proxy(
    runtime: SupervisedRuntime, tmp_path: Path, host_port: int
) -> None:
    environment = {"URLS": f"http://127.0.0.1:{host_port}/"}
    for code, word, expected in ((FETCH, "got", "from the host"), (SURROUNDED, "proxies", "[]")):
        output = Output()
        options: dict[str, Any] = {"private_network": True, "block_network": True, "shared_ports": (host_port,)}
        container = await runtime.start(spec_of(tmp_path, code, environment=environment, **options), output.on_output)
        assert await output.line(word) == expected, output.text
        await container.wait()


async def test_a_network_that_cannot_be_blocked_is_an_error(tmp_path: Path) -> None:
    isolation = Isolation(why="not allowed here")
    runtime: Any = choose_runtime("process", entry="user_code:go", machine=machine(), isolation=isolation)
    with pytest.raises(ContainerStartError, match=r"`block_network` can not be kept.*not allowed here"):
        await runtime.start(spec_of(tmp_path, FETCH, private_network=True, block_network=True), Output().on_output)
    await runtime.close()


async def test_there_may_be_more_shared_ports_than_descriptors_in_a_message(
    runtime: SupervisedRuntime, tmp_path: Path, host_port: int
) -> None:
    ports = [*range(20000, 20300), host_port]
    output = Output()
    environment = {"URLS": f"http://127.0.0.1:{host_port}/"}
    spec = spec_of(tmp_path, FETCH, environment=environment, private_network=True, shared_ports=ports)
    before = len(list(Path("/proc/self/fd").iterdir()))  # noqa: ASYNC240
    async with asyncio.timeout(WITHIN):
        container = await runtime.start(spec, output.on_output)
        held = len(list(Path("/proc/self/fd").iterdir())) - before  # noqa: ASYNC240
        assert await output.line("got") == "from the host", output.text
        await container.wait()
    assert held < 20, "a container must not cost the emulator a descriptor for every web address"


async def test_the_internet_is_reached_through_the_proxy_of_its_environment(
    runtime: SupervisedRuntime, tmp_path: Path, host_port: int
) -> None:
    """By a plain request and by CONNECT. `localtest` stands for a name on the internet: only the proxy resolves it."""
    code = """
import os, urllib.request, http.client, urllib.parse
def go():
    port = os.environ["TARGET"]
    plain = urllib.request.ProxyHandler({"http": os.environ["HTTP_PROXY"]})
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ""
    opened = urllib.request.build_opener(plain).open(f"http://localhost:{port}/", timeout=30)
    proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
    tunnel = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=30)
    tunnel.set_tunnel("localhost", int(port)); tunnel.request("GET", "/")
    print("got", opened.read().decode(), "/", tunnel.getresponse().read().decode(), flush=True)
    refused = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=30)
    refused.set_tunnel("localhost", 1)
    try:
        refused.request("GET", "/")
    except OSError as error:
        print("then", error, flush=True)
"""
    output = Output()
    spec = spec_of(tmp_path, code, environment={"TARGET": str(host_port)}, private_network=True)
    container = await runtime.start(spec, output.on_output)
    await container.wait()
    assert "got from the host / from the host" in output.text["stdout"], output.text
    assert "502" in await output.line("then")


async def test_eth0_has_an_address_on_which_a_server_is_reached(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = """
import socket
from modal._runtime.asgi import get_ip_address
def go():
    listener = socket.create_server(("0.0.0.0", 8000))
    address = get_ip_address(b"eth0")
    with socket.create_connection((address, 8000), timeout=30):
        print("reached", address, flush=True)
"""
    output = Output()
    container = await runtime.start(spec_of(tmp_path, code, private_network=True), output.on_output)
    await container.wait()
    assert (await output.line("reached")).startswith("172."), output.text


async def test_without_a_private_network_the_machines_own_loopback_is_dialled(tmp_path: Path) -> None:
    runtime: Any = choose_runtime("process", entry="user_code:go", isolation=Isolation(why="the test says so"))
    port = free_port()
    container = await serving(runtime, tmp_path, port)
    assert await get(container, port) == b"ta-1"
    await runtime.close()


async def test_on_a_shared_network_a_fixed_port_is_one_containers_and_the_error_says_so(tmp_path: Path) -> None:
    runtime: Any = choose_runtime("process", entry="user_code:go", isolation=Isolation(why="not allowed"))
    port = free_port()
    first = await serving(runtime, tmp_path, port)
    spec = spec_of(tmp_path, SERVER, task_id="ta-2", private_network=True, fixed_ports=[port])
    with pytest.raises(ContainerStartError, match=f"port {port} is taken by container ta-1.*not allowed"):
        await runtime.start(spec, Output().on_output)
    await end(first)
    second = await runtime.start(spec, Output().on_output)
    await end(second)
    await runtime.close()


async def test_closing_while_a_shared_connection_is_open_leaves_nothing(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    arrived = asyncio.Event()
    left = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        left.set()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    code = f"import socket, time\ndef go():\n    s = socket.create_connection(('127.0.0.1', {port})); time.sleep(1000)"
    container = await runtime.start(
        spec_of(tmp_path, code, private_network=True, shared_ports=[port]), Output().on_output
    )
    async with asyncio.timeout(WITHIN):
        await arrived.wait()
        await end(container)
        await left.wait()
    server.close()


async def test_a_machine_behind_a_proxy_of_its_own_lends_it_to_private_networks(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nproxy")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    runtime: Any = choose_runtime(
        "process", entry="user_code:go", machine=machine(https_proxy=f"http://127.0.0.1:{port}")
    )
    if not (await runtime.isolation()).private_network:
        pytest.skip("this machine gives containers no network of their own")
    output = Output()
    environment = {"URLS": "http://far.example/x"}
    container = await runtime.start(
        spec_of(tmp_path, FETCH, environment=environment, private_network=True), output.on_output
    )
    assert await output.line("got") == "proxy", output.text
    await container.wait()
    await runtime.close()
    server.close()
    assert heads[0].startswith(b"GET http://far.example/x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"CONNECT hub.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", ("hub.example", 443, b"")),
        (b"CONNECT [::1]:8443 HTTP/1.1\r\n\r\n", ("::1", 8443, b"")),
        (
            b"GET http://a.example/p?q=1 HTTP/1.1\r\nHost: a.example\r\nProxy-Connection: keep-alive\r\n\r\n",
            ("a.example", 80, b"GET /p?q=1 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"),
        ),
    ],
)
async def test_a_proxy_request_names_where_to_go_and_what_to_send_there(head: bytes, expected: Any) -> None:
    assert parse_request(head) == expected


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"CONNECT x:y HTTP/1.1\r\n\r\n"])
async def test_what_is_no_proxy_request_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_request(head)
