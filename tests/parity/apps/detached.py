import modal

app = modal.App("detached")


@app.function()
def long(key: str) -> str:
    import time

    print(f"begun {key}")
    time.sleep(4)
    print(f"finished {key}")
    return key


@app.function()
def short() -> str:
    return "short"


@app.local_entrypoint()
def spawns(key: str) -> None:
    print("SPAWNED", long.spawn(key).object_id)


@app.local_entrypoint()
def stays(key: str) -> None:
    import time

    long.spawn(key)
    print("SPAWNED")
    time.sleep(60)
