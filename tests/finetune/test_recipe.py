"""What a recipe may say, and that contradictions are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from finetune.checkpoint import resolved
from finetune.recipe import Recipe
from tests.finetune import toy


def changed(changes: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({**toy.recipe(Path("somewhere")), **changes})


def test_a_pretrained_base_needs_three_sections_only() -> None:
    recipe = Recipe.model_validate(
        {"task": "text-classification", "output": "runs/a", "model": {"base": "x"}, "data": {"train": "t.csv"}}
    )
    assert recipe.data.validation == 0.1
    assert recipe.training.learning_rate == 5e-5
    assert recipe.cleaning.unicode == "NFC"


def test_the_resolved_recipe_reads_back_as_the_same_recipe() -> None:
    recipe = changed({"seed": 7, "training": {"learning_rate": 5e-5, "batch_tokens": 512}})
    assert Recipe.model_validate(yaml.safe_load(resolved(recipe))) == recipe


SCRATCH: dict[str, Any] = {"layers": 1}
CONTRADICTIONS = [
    ({"model": {}}, "exactly one of base"),
    ({"model": {"base": "x", "scratch": SCRATCH}}, "exactly one of base"),
    ({"tokenizer": None}, "needs a tokenizer section"),
    ({"model": {"base": "x"}}, "remove the tokenizer section"),
    ({"training": {"batch_rows": 8, "batch_tokens": 64}}, "not both"),
    ({"model": {"scratch": {"hidden": 33, "heads": 2}}}, "multiple of heads"),
    ({"task": "text-clasification"}, "the tasks are text-classification"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        changed(changes)


OUT_OF_RANGE: list[dict[str, Any]] = [
    {"seed": -1},
    {"seed": 2**31},
    {"max_length": 3},
    {"data": {"train": "a.csv", "validation": 1.0}},
    {"data": {"train": "a.csv", "validation": 0.0}},
    {"data": {"train": "a.csv", "limit": 0}},
    {"tokenizer": {"vocab_size": 15}},
    {"tokenizer": {"kind": "sentencepiece"}},
    {"cleaning": {"unicode": "NFD"}},
    {"training": {"epochs": 0}},
    {"training": {"learning_rate": 1}},
    {"training": {"accumulate": 0}},
    {"training": {"patience": 0}},
    {"training": {"label_smoothing": 1.0}},
]


@pytest.mark.parametrize("changes", OUT_OF_RANGE, ids=str)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        changed(changes)


@pytest.mark.parametrize("changes", [{"seed": "13"}, {"seed": 1.0}, {"max_length": "64"}, {"output": 5}], ids=str)
def test_nothing_is_converted_silently(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        changed(changes)


def test_labels_may_be_keyed_by_whole_numbers() -> None:
    data = {"train": "a.csv", "labels": {0: "negative", "1": "positive"}}
    assert changed({"data": data}).data.labels == {"0": "negative", "1": "positive"}


def test_a_recipe_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        changed({}).seed = 5  # type: ignore[misc]
