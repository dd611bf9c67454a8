import modal

app = modal.App("basics")


@app.function()
def square(x: int) -> int:
    return x * x
