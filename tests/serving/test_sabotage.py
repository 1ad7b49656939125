"""Bundles that somebody tampered with, or that an exporter made wrong: what is meant to catch each does, by name.

Where digests alone would tell, they are made right again, so that only what the files hold can give them away.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serving.bundle import ASSETS, GOLDEN, open_bundle
from serving.engine import Engine
from serving.errors import BundleError
from serving.manifest import MANIFEST
from serving.modality.text import SETTINGS, TOKENIZER
from serving.settings import Settings
from serving.tasks.text_classification import LABELS
from tests.serving.bundles import LABELS as BUNDLE_LABELS
from tests.serving.bundles import manifest_of, reseal, write_bundle

GRAPH = "model.onnx"
FILES = (GRAPH, GOLDEN, f"{ASSETS}/{TOKENIZER}", f"{ASSETS}/{LABELS}", f"{ASSETS}/{SETTINGS}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path, backend="onnxruntime")


def loaded(folder: Path) -> None:
    """Load a version as a server does. Raises BundleError."""
    Engine.load(open_bundle(folder), Settings(runners=1)).close()


def swap_labels(folder: Path) -> None:
    path = folder / ASSETS / LABELS
    first, *others = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps([*others, first]), "utf-8")


def change_tokenizer(folder: Path) -> None:
    """Two letters trade their ids, as in a vocabulary of another training."""
    path = folder / ASSETS / TOKENIZER
    tokenizer = json.loads(path.read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["z"] = vocabulary["z"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer), "utf-8")


def cut_texts(folder: Path) -> None:
    path = folder / ASSETS / SETTINGS
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "max_length": 8}), "utf-8")


def golden_rows(folder: Path) -> list[dict[str, dict[str, object]]]:
    return [json.loads(line) for line in (folder / GOLDEN).read_text("utf-8").splitlines()]


def write_golden_rows(folder: Path, rows: list[dict[str, dict[str, object]]]) -> None:
    (folder / GOLDEN).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def alter_golden_text(folder: Path) -> None:
    rows = golden_rows(folder)
    rows[1]["row"]["text"] = "Grüße!"
    write_golden_rows(folder, rows)


def alter_golden_answer(folder: Path) -> None:
    rows = golden_rows(folder)
    answer = rows[1]["answer"]
    answer["label"] = next(label for label in BUNDLE_LABELS if label != answer["label"])
    write_golden_rows(folder, rows)


def drop_golden(folder: Path) -> None:
    write_golden_rows(folder, [])


def corrupt_scale(folder: Path) -> None:
    """One column of the weights as if its scale were a tenth too large."""
    model = onnx.load(folder / GRAPH)
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == "weights")
    values = numpy_helper.to_array(weights) * np.array([1.0, 1.0, 1.1], np.float32)
    weights.CopyFrom(numpy_helper.from_array(values.astype(np.float32), "weights"))
    onnx.save(model, folder / GRAPH)


def test_untouched_bundle_loads_also_with_its_digests_made_anew(folder: Path) -> None:
    before = manifest_of(folder)
    loaded(folder)
    reseal(folder)
    assert manifest_of(folder) == before
    loaded(folder)


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (swap_labels, r"2 of 2 golden rows are not reproduced; first: golden row 0 .*: label is '.*' instead of '"),
        (change_tokenizer, r"golden rows are not reproduced; .*logits differs by [0-9.e+-]+, more than 0\.0001"),
        (cut_texts, r"golden rows are not reproduced; .*logits differs by"),
        (alter_golden_text, r"1 of 2 golden rows are not reproduced; first: golden row 1 .*Grüße!.*logits differs by"),
        (alter_golden_answer, r"1 of 2 golden rows are not reproduced; first: golden row 1 .*label is '.*' instead of"),
        (drop_golden, r"has no golden rows, so nothing proves it"),
        (corrupt_scale, r"2 of 2 golden rows are not reproduced; .*logits differs by"),
    ],
)
def test_what_the_digests_hide_the_golden_rows_show(sabotage: Callable[[Path], None], said: str, folder: Path) -> None:
    sabotage(folder)
    reseal(folder)
    open_bundle(folder)
    with pytest.raises(BundleError, match=said):
        loaded(folder)


@pytest.mark.parametrize("sabotage", [swap_labels, change_tokenizer, cut_texts, alter_golden_text, corrupt_scale])
def test_the_same_without_new_digests_is_caught_before_anything_is_opened(
    sabotage: Callable[[Path], None], folder: Path
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    sabotage(folder)
    (changed,) = (path for path, content in before.items() if path.read_bytes() != content)
    with pytest.raises(BundleError, match=f"{changed.relative_to(folder)} was changed after it was written"):
        open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
def test_byte_flipped_in_any_file_is_told_with_its_name(name: str, place: float, folder: Path) -> None:
    assert set(FILES) == set(open_bundle(folder).manifest.files)
    content = bytearray((folder / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x01
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was changed after it was written"):
        open_bundle(folder)


def test_byte_flipped_in_the_manifest_is_told(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"max_batch_size": 4', b'"max_batch_size": 5'))
    with pytest.raises(BundleError, match=r"manifest\.json was changed after it was written"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        ({"format": 3}, r"format 3 is newer than this version of downstream reads \(2\): upgrade the server"),
        ({"format": 1}, "format 1 is older than 2; export the model again"),
        ({"task": "poetry"}, "'poetry'"),
        (
            {"gates": [{"gate": "speed", "passed": False, "message": "0.9 x FP32", "accepted": ""}]},
            "gate speed did not",
        ),
        ({"graphs": {"model": "other.onnx"}}, r"no digest of other\.onnx"),
    ],
)
def test_what_a_sealed_manifest_may_not_say_is_told(sabotage: dict[str, object], said: str, folder: Path) -> None:
    reseal(folder, **sabotage)
    with pytest.raises(Exception, match=said):
        loaded(folder)
