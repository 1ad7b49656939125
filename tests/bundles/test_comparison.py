"""diff: every difference under its part, and the sentence says the one that matters most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundles.comparison import PARTS, Comparison, compare
from serving.bundle import MANIFEST, digest_folder, write_json
from serving.errors import BundleError
from tests.serving.bundles import LABELS, manifest_of, write_bundle

QUALITY = {"fp32": {"accuracy": 0.9, "interval": [0.88, 0.92], "bytes": 10, "p50_ms": 4.0, "operators": {"MatMul": 7}}}
SOURCE = {
    "base_model": "a",
    "data_digest": "d",
    "recipe": {"training": {"epochs": 3}},
    "versions": {"torch": "2.13"},
    "git_commit": "c",
}


def told(version: Path, **fields: Any) -> Path:
    """The version with other fields in its manifest."""
    manifest = {**manifest_of(version), "quality": QUALITY, "source": SOURCE, **fields}
    (version / MANIFEST).unlink()
    write_json(version / MANIFEST, manifest)
    return version


@pytest.fixture
def first(repository: Path) -> Path:
    return told(write_bundle(repository))


def parts(comparison: Comparison) -> dict[str, dict[str, tuple[Any, Any]]]:
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for difference in comparison.differences:
        found.setdefault(difference.part, {})[difference.name] = (difference.before, difference.after)
    return found


def test_the_same_under_another_number_is_equal(first: Path, repository: Path) -> None:
    found = compare(first, told(write_bundle(repository, version=2)))
    assert (found.sentence, list(found.differences)) == ("The two are equal.", [])


@pytest.mark.parametrize(
    ("fields", "part", "difference", "said"),
    [
        ({"source": {**SOURCE, "base_model": "b"}}, "base", {"base_model": ("a", "b")}, "base model is another"),
        ({"source": {**SOURCE, "data_digest": "e"}}, "data", {"data_digest": ("d", "e")}, "rows it learnt from"),
        (
            {"source": {**SOURCE, "recipe": {"training": {"epochs": 4}, "seed": 1}}},
            "recipe",
            {"recipe.training.epochs": (3, 4), "recipe.seed": (None, 1)},
            "recipe changed",
        ),
        ({"source": {**SOURCE, "versions": {}}}, "packages", {"versions.torch": ("2.13", None)}, "packages"),
        ({"source": {**SOURCE, "git_commit": "x"}}, "source", {"git_commit": ("c", "x")}, "another time or place"),
        ({"tolerance": {"logits": 0.1}}, "tolerance", {"logits": (1e-4, 0.1)}, "Golden rows may differ"),
        ({"batch_invariant": False}, "serving", {"batch_invariant": (True, False)}, "served in another way"),
        (
            {"quality": {"fp32": {**QUALITY["fp32"], "p50_ms": 5.0}}},
            "speed",
            {"p50_ms": (4.0, 5.0)},
            "another speed",
        ),
        (
            {"quality": {"fp32": {**QUALITY["fp32"], "operators": {"MatMul": 6, "Gemm": 1}}}},
            "operators",
            {"operators.MatMul": (7, 6), "operators.Gemm": (None, 1)},
            "other operators",
        ),
        (
            {"quality": {"fp32": {**QUALITY["fp32"], "accuracy": 0.89}}},
            "metrics",
            {"accuracy": (0.9, 0.89)},
            "did not fall below their interval",
        ),
    ],
)
def test_what_differs_is_told_under_its_part(
    first: Path, tmp_path: Path, fields: dict[str, Any], part: str, difference: dict[str, Any], said: str
) -> None:
    second = told(write_bundle(tmp_path / "second"), **fields)
    found = compare(first, second)
    by_part = parts(found)
    assert by_part == {part: difference}
    assert said in found.sentence


def test_a_metric_below_its_interval_is_the_sentence(first: Path, tmp_path: Path) -> None:
    worse = {"fp32": {**QUALITY["fp32"], "accuracy": 0.87}}
    second = told(write_bundle(tmp_path), quality=worse, source={**SOURCE, "data_digest": "e"})
    sentence = compare(first, second).sentence
    assert sentence == "accuracy fell from 0.9 to 0.87, below the interval [0.88, 0.92] of the first."


def test_labels_that_moved_come_before_all_else(first: Path, tmp_path: Path) -> None:
    moved = (LABELS[1], LABELS[0], "praise")
    second = told(write_bundle(tmp_path, labels=moved), source={**SOURCE, "base_model": "b"})
    found = compare(first, second)
    assert found.sentence == (
        "Labels moved: cancel from 0 to 1, refund from 1 to 0; removed: thanks; added: praise: "
        "clients that read positions or these names read other classes."
    )
    assert parts(found)["labels"] == {"cancel": (0, 1), "refund": (1, 0), "thanks": (2, None), "praise": (None, 2)}
    assert found.differences[0].part == "labels"


def test_another_tokenizer_is_told(first: Path, tmp_path: Path) -> None:
    second = write_bundle(tmp_path)
    path = second / "assets" / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["z"] = vocabulary["z"], vocabulary["a"]
    write_json(path, tokenizer)
    (second / MANIFEST).rename(tmp_path / "m")
    files = digest_folder(second)
    (tmp_path / "m").rename(second / MANIFEST)
    found = compare(first, told(second, files=files))
    assert set(parts(found)) == {"tokenizer", "size"}
    assert "the same text gives other tokens" in found.sentence


def test_differences_come_in_the_order_in_which_they_matter(first: Path, tmp_path: Path) -> None:
    second = told(write_bundle(tmp_path, backend="onnxruntime", labels=("a", "b", "c")), source={}, quality={})
    order = [difference.part for difference in compare(first, second).differences]
    assert order == sorted(order, key=list(PARTS).index)
    assert {"labels", "base", "graph", "golden", "size"} <= set(order)


def test_a_damaged_version_is_not_compared(first: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.json was changed"):
        compare(first, write_bundle(tmp_path, damaged="model.json"))
