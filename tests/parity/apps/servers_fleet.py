"""Servers of several containers, each with the same port: every answer is the id of its container."""

import os
import subprocess
import sys

import modal

app = modal.App("servers-fleet")

PROGRAM = """
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.rpartition("/")[2]))
        body = os.environ["MODAL_TASK_ID"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""


class Base:
    @modal.enter()
    def start(self):
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM])

    @modal.exit()
    def stop(self):
        print(f"exit handler of {os.environ['MODAL_TASK_ID']}", flush=True)
        self.process.terminate()
        self.process.wait()


@app.server(unauthenticated=True, min_containers=3, max_containers=4, target_concurrency=100)
class Fleet(Base):
    pass


@app.server(unauthenticated=True, target_concurrency=1, max_containers=2, scaledown_window=2, exit_grace_period=10)
class Growing(Base):
    pass
