"""What export cannot do is refused by name, with what to do instead; what it can is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.refusals import check_model
from serving.errors import InvalidInput

CLASSIFIER, GENERATOR = "AutoModelForSequenceClassification", "AutoModelForCausalLM"


def written(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    written(tmp_path, {"model_type": "own", "auto_map": {"AutoModel": "own.Own"}})
    with pytest.raises(InvalidInput, match=r"auto_map: .*code of its own.*train from a base"):
        check_model(tmp_path, CLASSIFIER)


@pytest.mark.parametrize(
    "config",
    [
        {"sliding_window": 4096},
        {"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]},
        {"text_config": {"sliding_window": 512}},
    ],
)
def test_the_cache_of_a_sliding_window_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    written(tmp_path, {"model_type": "mistral", **config})
    with pytest.raises(InvalidInput, match="sliding_window: the cache of a generating mistral"):
        check_model(tmp_path, GENERATOR)


@pytest.mark.parametrize(
    ("auto_class", "config"),
    [
        (GENERATOR, {"sliding_window": None}),
        (GENERATOR, {"sliding_window": 4096, "use_sliding_window": False}),
        (GENERATOR, {"sliding_window": 4096, "layer_types": ["full_attention"]}),
        (GENERATOR, {}),
        # ModernBERT: a window without a cache.
        (CLASSIFIER, {"sliding_window": 128, "layer_types": ["sliding_attention"]}),
    ],
)
def test_what_can_be_exported_is_not_refused(tmp_path: Path, auto_class: str, config: dict[str, Any]) -> None:
    check_model(written(tmp_path, config), auto_class)
