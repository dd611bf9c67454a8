"""Web functions at labels and domains that were asked for. The label is in LABEL."""

import os

import modal

label = os.environ.get("LABEL", "mine")
image = modal.Image.debian_slim().pip_install("fastapi").env({"LABEL": label})
app = modal.App("labels", image=image)


@app.function(max_containers=1)
@modal.asgi_app(label=label, custom_domains=["pages.example.com"])
def labelled():
    async def application(scope, receive, send):
        if scope["type"] == "http":
            told = f"{scope['root_path']} {scope['path']}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": told})

    return application
