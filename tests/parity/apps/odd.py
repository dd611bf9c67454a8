"""Asks for what there is not."""

import modal

app = modal.App("odd")


@app.function(gpu="H1000", experimental_options={"sideways": True})
def f() -> None: ...
