"""Modal Servers: an HTTP server of their own in each container, which tells what reaches it."""

import os
import subprocess
import sys

import modal

app = modal.App("servers")

PROGRAM = """
import asyncio, os, sys

TASK = os.environ["MODAL_TASK_ID"].encode()
PLAIN = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%b"
EXACT = b"HTTP/1.1 209 Quite\\r\\nX-CaSe: KeEp\\r\\nx-twice: 1\\r\\nX-Twice: 2\\r\\n"
EXACT += b"Content-Length: 4\\r\\n\\r\\n\\x00\\xff\\r\\n"
EVENTS = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
SWITCH += b"Sec-WebSocket-Accept: "

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            path = head.split(b" ", 2)[1]
            if path == b"/head":
                writer.write(PLAIN % (len(head), head))
            elif path == b"/exact":
                writer.write(EXACT)
            elif path == b"/events":
                writer.write(EVENTS)
                for number in range(3):
                    writer.write(b"9\\r\\ndata: %d\\n\\n\\r\\n" % number)
                    await writer.drain()
                    await reader.readexactly(1)
                writer.write(b"0\\r\\n\\r\\n")
            elif path.startswith(b"/slow/"):
                await asyncio.sleep(float(path.rpartition(b"/")[2]))
                writer.write(PLAIN % (len(TASK), TASK))
            elif path == b"/socket":
                import base64, hashlib
                key = [line for line in head.split(b"\\r\\n") if line.lower().startswith(b"sec-websocket-key:")][0]
                mixed = key.split(b":")[1].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                writer.write(SWITCH + base64.b64encode(hashlib.sha1(mixed).digest()) + b"\\r\\n\\r\\n")
                while data := await reader.read(65536):
                    writer.write(data)
            elif path == b"/stop-listening":
                server.close()
                writer.write(PLAIN % (0, b""))
            else:
                writer.write(PLAIN % (len(TASK), TASK))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()

async def main():
    global server
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]))
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Base:
    port = 8000

    @modal.enter()
    def start(self):
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(self.port)])

    @modal.exit()
    def stop(self):
        print(f"exit handler of {os.environ['MODAL_TASK_ID']}", flush=True)
        self.process.terminate()
        self.process.wait()


@app.server(unauthenticated=True, max_containers=1, max_concurrency=2, routing_region="us-west")
class Open(Base):
    pass


@app.server(unauthenticated=True, max_containers=1)
class Fresh(Base):
    pass


@app.server(port=9123, env={"WHO": "me"}, cpu=0.25, memory=256, max_containers=1, name="private", exit_grace_period=5)
class Private(Base):
    port = 9123


@app.server(unauthenticated=True, max_concurrency=1, max_containers=2)
@modal.sessioned()
class Rooms(Base):
    pass


@app.server(unauthenticated=True, startup_timeout=1, max_containers=1)
class Never:
    @modal.enter()
    def start(self):
        pass
