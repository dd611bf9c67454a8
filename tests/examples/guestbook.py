"""Somebody's Modal app: nothing in it knows of tests."""

import modal

app = modal.App("guestbook")
image = modal.Image.debian_slim().pip_install("fastapi")
entries = modal.Dict.from_name("entries", create_if_missing=True)


@app.function(image=image)
def sign(name: str) -> int:
    entries[name] = True
    return entries.len()


@app.function(image=image)
@modal.fastapi_endpoint()
def page() -> list[str]:
    return sorted(entries.keys())
