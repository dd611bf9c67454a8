"""The demo model that ships with the project: its corpus, how it is trained, and its files in `model/`."""

from __future__ import annotations

from pathlib import Path

MODEL_FOLDER = Path(__file__).parent / "model"
"""What SGLang and transformers load: safetensors, configuration and tokenizer."""

GGUF = MODEL_FOLDER / "demo-q8_0.gguf"
"""What llama.cpp loads."""
