"""What sessions are, in a few words: the truth that the real ones are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

SYSTEM = "You are a helpful AI assistant."


@dataclass(frozen=True)
class ModelSession:
    """`said`: role, text and whether it was interrupted. `answering`: the process whose turn is under way."""

    title: str
    system: str
    said: tuple[tuple[str, str, bool], ...]
    expires_at: float
    answering: int | None = None

    def history(self) -> list[dict[str, object]]:
        told: list[dict[str, object]] = [{"role": "system", "content": self.system}] if self.system else []
        for role, text, interrupted in self.said:
            told.append({"role": role, "content": text, **({"interrupted": True} if interrupted else {})})
        return told

    def asked(self, prompt: str, *, by: int, expires_at: float) -> ModelSession:
        said = (*self.said, ("user", prompt, False))
        words = " ".join(prompt.split())
        title = self.title or (words if len(words) <= 80 else words[:79] + "…")
        return replace(self, said=said, answering=by, expires_at=expires_at, title=title)

    def answered(self, text: str, *, whole: bool, expires_at: float) -> ModelSession:
        return replace(
            self, said=(*self.said, ("assistant", text, not whole)), answering=None, expires_at=expires_at
        )  # fmt: skip

    def died(self) -> ModelSession:
        """Its process is gone, and its lease over."""
        return replace(self, said=(*self.said, ("assistant", "", True)), answering=None)


@dataclass
class Model:
    """Of one owner, who may have `most`."""

    most: int
    kept: dict[str, ModelSession] = field(default_factory=dict)

    def living(self, now: float) -> dict[str, ModelSession]:
        return {
            name: one for name, one in self.kept.items() if one.answering is not None or one.expires_at > now
        }  # fmt: skip

    def find(self, name: str, now: float) -> ModelSession | None:
        return self.living(now).get(name)
