"""diff: every difference under its part, and the sentence says the one that matters most."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bundles.comparison import PARTS, Comparison, compare, show
from serving.bundle import write_json
from serving.errors import BundleError
from tests.bundles.gates import failed_gate, passed_gate
from tests.serving.bundles import LABELS, reseal, write_bundle

FIGURES = {"accuracy": 0.9, "interval": [0.88, 0.92], "bytes": 10, "p50_ms": 4.0, "operators": {"integer": 7}}
QUALITY = {"fp32": {**FIGURES, "verdict": "kept", "seconds_to_make": 1.5}}
SOURCE = {
    "base_model": "a",
    "base_revision": "r",
    "checkpoint": "sha256:c",
    "weights": {"model.safetensors": "sha256:w"},
    "data_digest": "d",
    "seed": 13,
    "recipe": {"output": "runs/a", "seed": 13, "training": {"epochs": 3}},
    "trained_with": {"torch": "2.13"},
    "exported_with": {"onnx": "1.23"},
    "git_commit": "c",
    "exported": "2026-11-24",
}
RECIPE: dict[str, Any] = SOURCE["recipe"]
GATES = [passed_gate("parity"), passed_gate("speed")]


def told(version: Path, **fields: Any) -> Path:
    """The version with other fields in its manifest."""
    reseal(version, **{"quality": QUALITY, "source": SOURCE, "gates": GATES, **fields})
    return version


def figures(**changes: Any) -> dict[str, Any]:
    """Another quality of the graph that serves."""
    return {"fp32": {**QUALITY["fp32"], **changes}}


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
        (
            {"source": {**SOURCE, "base_model": "b", "base_revision": "s"}},
            "base",
            {"base_model": ("a", "b"), "base_revision": ("r", "s")},
            "The base model is another one: base_model from a to b, base_revision from r to s.",
        ),
        ({"source": {**SOURCE, "data_digest": "e"}}, "data", {"data_digest": ("d", "e")}, PARTS["data"]),
        (
            {"source": {**SOURCE, "seed": 7, "recipe": {**RECIPE, "seed": 7, "training": {"epochs": 4}}}},
            "recipe",
            {"recipe.seed": (13, 7), "recipe.training.epochs": (3, 4)},
            "The recipe changed: seed from 13 to 7, training.epochs from 3 to 4.",
        ),
        (
            {"source": {**SOURCE, "checkpoint": "sha256:x", "weights": {"model.safetensors": "sha256:y"}}},
            "weights",
            {"checkpoint": ("sha256:c", "sha256:x"), "weights.model.safetensors": ("sha256:w", "sha256:y")},
            PARTS["weights"],
        ),
        (
            {"source": {**SOURCE, "trained_with": {}, "exported_with": {"onnx": "1.24"}}},
            "packages",
            {"trained_with.torch": ("2.13", None), "exported_with.onnx": ("1.23", "1.24")},
            PARTS["packages"],
        ),
        (
            {"source": {**SOURCE, "git_commit": "x", "recipe": {**RECIPE, "output": "runs/b"}}, "host": {"cores": 2}},
            "source",
            {"git_commit": ("c", "x"), "recipe.output": ("runs/a", "runs/b"), "host.cores": (None, 2)},
            PARTS["source"],
        ),
        ({"tolerance": {"logits": 0.1}}, "tolerance", {"logits": (1e-4, 0.1)}, PARTS["tolerance"]),
        ({"licence": "mit"}, "licence", {"licence": ("", "mit")}, "The licence is another one: licence from  to mit."),
        (
            {"batch_invariant": False, "needs": ["vnni"]},
            "serving",
            {"batch_invariant": (True, False), "needs": ([], ["vnni"])},
            "It is served in another way: batch_invariant from True to False, needs from [] to [vnni].",
        ),
        (
            {"gates": [GATES[0], failed_gate("speed")]},
            "gates",
            {"speed": ("passed", "failed")},
            "Gates came out otherwise: speed from passed to failed.",
        ),
        (
            {"gates": [GATES[0], failed_gate("speed", "for now")]},
            "gates",
            {"speed": ("passed", "accepted (for now)")},
            "Gates came out otherwise: speed from passed to accepted (for now).",
        ),
        ({"quality": figures(p50_ms=5.0)}, "speed", {"p50_ms": (4.0, 5.0)}, PARTS["speed"]),
        (
            {"quality": figures(operators={"integer": 6, "gelu": 1})},
            "operators",
            {"operators.integer": (7, 6), "operators.gelu": (None, 1)},
            PARTS["operators"],
        ),
        ({"quality": figures(accuracy=0.89)}, "metrics", {"accuracy": (0.9, 0.89)}, PARTS["metrics"]),
    ],
)
def test_what_differs_is_told_under_its_part(
    first: Path, tmp_path: Path, fields: dict[str, Any], part: str, difference: dict[str, Any], said: str
) -> None:
    second = told(write_bundle(tmp_path / "second"), **fields)
    found = compare(first, second)
    by_part = parts(found)
    assert by_part == {part: difference}
    assert found.sentence == said


def test_a_metric_below_its_interval_is_the_sentence(first: Path, tmp_path: Path) -> None:
    second = told(write_bundle(tmp_path), quality=figures(accuracy=0.87), source={**SOURCE, "data_digest": "e"})
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
    found = compare(first, told(second))
    assert set(parts(found)) == {"tokenizer", "size"}
    assert "the same text gives other tokens" in found.sentence


def test_what_people_read_and_what_nobody_asks_is_not_compared(first: Path, tmp_path: Path) -> None:
    second = write_bundle(tmp_path)
    (second / "README.md").write_text("another card")
    (second / "export_report.html").write_text("another report")
    found = compare(first, told(second, quality=figures(verdict="kept; speed is accepted", seconds_to_make=2.0)))
    assert found.differences == []


def test_another_temperature_is_told_by_its_value(first: Path, tmp_path: Path) -> None:
    second = write_bundle(tmp_path)
    write_json(second / "assets" / "temperature.json", {"temperature": 1.5})
    found = compare(first, told(second))
    assert parts(found)["temperature"] == {"temperature": (1.0, 1.5)}
    assert found.sentence == PARTS["temperature"]
    assert set(parts(found)) == {"temperature", "size"}


def test_what_one_of_them_does_not_know_makes_no_sentence(first: Path, tmp_path: Path) -> None:
    source = {**SOURCE, "base_revision": "unknown", "checkpoint": "sha256:x"}
    found = compare(first, told(write_bundle(tmp_path), source=source))
    assert list(parts(found)) == ["base", "weights"]
    assert found.sentence == PARTS["weights"]


def test_a_version_in_quarantine_is_compared_all_the_same(first: Path, tmp_path: Path) -> None:
    second = told(write_bundle(tmp_path), gates=[failed_gate("speed")], source={**SOURCE, "base_model": "b"})
    assert compare(second, first).sentence == (
        "Gates came out otherwise: speed from failed to passed, parity from - to passed."
    )


def test_differences_come_in_the_order_in_which_they_matter(first: Path, tmp_path: Path) -> None:
    second = told(write_bundle(tmp_path, backend="onnxruntime", labels=("a", "b", "c")), source={}, quality={})
    order = [difference.part for difference in compare(first, second).differences]
    assert order == sorted(order, key=list(PARTS).index)
    assert {"labels", "base", "graph", "golden", "size"} <= set(order)


def test_numbers_are_told_with_their_change_where_they_are_amounts(first: Path, tmp_path: Path) -> None:
    source = {**SOURCE, "recipe": {**RECIPE, "seed": 7}}
    second = told(write_bundle(tmp_path), source=source, quality=figures(p50_ms=5.0, memory=2_000_000))
    file = io.StringIO()
    show(Console(file=file, width=100), ["a/1", "a/2"], compare(first, second))
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert lines[0] == ["The", "recipe", "changed:", "seed", "from", "13", "to", "7."]
    assert ["recipe", "seed", "13", "7"] in lines
    assert ["speed", "p50_ms", "4", "5", "+25.0%"] in lines
    assert ["speed", "memory", "-", "2.0", "MB", "added"] in lines


def test_a_damaged_version_is_not_compared(first: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.json was changed"):
        compare(first, write_bundle(tmp_path, damaged="model.json"))
