"""Whose functions depend on what was there when it was deployed."""

import os

import modal

app = modal.App("versions")
environment = {"ANSWER": os.environ.get("ANSWER", "none")}


@app.function(env=environment)
def answer():
    return os.environ["ANSWER"]


@app.cls(env=environment)
class Oracle:
    word: str = modal.parameter()

    @modal.method()
    def answer(self):
        return f"{self.word} {os.environ['ANSWER']}"
