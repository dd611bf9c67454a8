"""A Server that speaks HTTP/2."""

import modal

app = modal.App("servers-h2")


@app.server(h2_enabled=True)
class Speaks:
    @modal.enter()
    def start(self):
        pass
