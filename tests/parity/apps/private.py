"""An app that tells what it sees."""

import os

import modal

app = modal.App("private")


@app.function()
def environment() -> dict[str, str]:
    return dict(os.environ)


@app.function()
@modal.fastapi_endpoint()
def page() -> str:
    return "hello"
