"""An app that takes longer to import than it has."""

import time

import modal

app = modal.App("slow-import")

if not modal.is_local():
    time.sleep(60)


@app.function(startup_timeout=1, timeout=30)
def f() -> None: ...
