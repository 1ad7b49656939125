"""Models that export cannot do, refused before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.errors import InvalidInput, fault

# Their graphs hold a cache, and that of a sliding window comes out wrong: other tokens, or inputs that are missing.
GENERATING = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForImageTextToText",
)


def check_model(folder: Path, auto_class: str) -> None:
    """Raise InvalidInput, with what to do instead, for a model that cannot be exported; ``folder`` is the model's."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if "auto_map" in config:
        raise InvalidInput(
            fault(
                "auto_map",
                f"{folder} is a model with code of its own, which is never run",
                config["auto_map"],
                "train from a base of a family that transformers has",
            )
        )
    window = _window(config)
    if auto_class in GENERATING and window:
        raise InvalidInput(
            fault(
                "sliding_window",
                f"the cache of a generating {config.get('model_type')} with a sliding window cannot be exported",
                window,
                "take a base without one, as GPT-2, Llama or Qwen",
            )
        )


def _window(config: Mapping[str, Any]) -> object:
    """The sliding window that a model uses, or None."""
    inner = {**config, **config.get("text_config", {})}
    layers = inner.get("layer_types")
    if inner.get("use_sliding_window") is False or (layers and "sliding_attention" not in layers):
        return None
    return inner.get("sliding_window")
