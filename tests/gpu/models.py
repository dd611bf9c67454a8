"""The models that are served on a GPU: the demo model, and one of the shape of an 8B with weights nobody trained."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from functions.demo import MODEL_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = 4096
EIGHT_BILLION = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 8192, "rope_theta": 500000.0,
    "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
"""Llama 3.1 8B's layers, which are 7 of the 8 billion. Its vocabulary is the demo model's, whose tokenizer it has."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def demo(*, device: str) -> dict[str, Any]:
    """As in the configuration."""
    common = {"id": "demo", "name": "demo", "path": str(MODEL_FOLDER), "context_length": CONTEXT}
    return common | ({"snapshot": True} if device == "cuda" else {})


def eight_billion(folder: Path) -> dict[str, Any]:
    """As in the configuration; its files, of which none holds weights, are written into `folder`."""
    small = json.loads((MODEL_FOLDER / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(small | EIGHT_BILLION), encoding="utf-8")
    for name in TOKENIZER:
        shutil.copy(MODEL_FOLDER / name, folder)
    return {
        "id": "big", "name": "big", "path": str(folder), "context_length": CONTEXT,
        "snapshot": True, "sglang": {"flags": {"load-format": "dummy"}},
    }  # fmt: skip
