import modal

from .parts import part

app = modal.App("packaged")


@app.function()
def show() -> str:
    return f"{__name__}: {part()}"


@app.local_entrypoint()
def main() -> None:
    print("RETURNED", show.remote())
