"""A bundle proves itself: digests, whole files, golden rows that survive their file, differences that are seen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.bundle import (
    GOLDEN,
    Bundle,
    GoldenRow,
    differences,
    open_bundle,
    plain,
    read_bundle,
    write_golden,
    write_json,
)
from serving.errors import BundleError, NotFound
from serving.manifest import MANIFEST, Manifest
from tests.serving.bundles import GOLDEN_ROWS, LABELS, manifest_of, reseal, write_bundle


def manifest(**changes: Any) -> Manifest:
    values = {"name": "m", "version": 1, "task": "text-classification", "backend": "stub", "precision": "fp32"}
    return Manifest(**{**values, "graphs": {}, "tolerance": {}, "max_batch_size": 1, **changes})


def test_written_bundle_opens_with_its_task_graphs_and_golden_rows(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    bundle = open_bundle(folder)
    assert bundle.manifest.name == "intent"
    assert bundle.open_task().axes == {"labels": LABELS}
    assert bundle.graph_files() == {"model": folder / "model.json"}
    assert [golden.row for golden in bundle.golden()] == list(GOLDEN_ROWS)


@pytest.mark.parametrize("file", ["model.json", "golden.jsonl", "assets/tokenizer.json", "assets/labels.json"])
def test_changed_file_is_named(file: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"{file} was changed"):
        open_bundle(write_bundle(tmp_path, damaged=file))


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / "model.json").unlink()
    (folder / GOLDEN).unlink()
    with pytest.raises(BundleError, match=r"golden\.jsonl is missing; model\.json is missing"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "incomplete"),
        ("{", "incomplete"),
        ("[]", "holds no object"),
        ("{}", "format None"),
        ('{"format": 1, "name": "m"}', "format 1 is older than 2; export the model again"),
        ('{"format": 3}', r"format 3 is newer than .* \(2\): upgrade the server"),
        ('{"format": 2, "name": "m"}', "has no digest of itself"),
    ],
)
def test_manifest_that_is_absent_broken_or_of_another_format_is_refused(
    content: str | None, said: str, tmp_path: Path
) -> None:
    folder = write_bundle(tmp_path)
    (folder / MANIFEST).unlink()
    if content is not None:
        (folder / MANIFEST).write_text(content)
    with pytest.raises(BundleError, match=said):
        open_bundle(folder)


def test_manifest_with_a_key_of_a_later_time_is_refused_by_that_key(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    reseal(folder, colour="red")
    with pytest.raises(BundleError, match="colour"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("version", "1"),
        ("batch_invariant", "yes"),
        ("graphs", ["model.onnx"]),
        ("files", {"a": 1}),
        ("tolerance", {"logits": "0"}),
        ("quality", []),
        ("gates", {}),
        ("gates", ["speed"]),
        ("needs", [["vnni"]]),
    ],
)
def test_field_of_another_kind_is_refused_by_its_name(field: str, value: object, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    reseal(folder, **{field: value})
    with pytest.raises(BundleError, match=rf"{MANIFEST}: {field} is no (str|int|bool|Mapping|Sequence)"):
        read_bundle(folder)


def test_manifest_survives_json() -> None:
    before = manifest(
        graphs={"model": "m.onnx"}, tolerance={"logits": 0.5}, quality={"ü": 0.9}, needs=("vnni",), licence="MIT",
        gates=({"gate": "speed", "passed": False, "message": "slow", "figures": {"x": 1e-9}, "accepted": "for now"},),
    ).sealed()  # fmt: skip
    assert Manifest.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_unknown_task_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"'poetry'.*text-classification"):
        Bundle(tmp_path, manifest(task="poetry")).open_task()


def test_json_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"v": 1})
    write_json(path, {"v": "ü"})
    assert json.loads(path.read_text("utf-8")) == {"v": "ü"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("value", [{"v": object()}, {"v": float("nan")}])
def test_json_file_that_cannot_be_written_leaves_the_old_one(value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"v": 1})
    with pytest.raises((TypeError, ValueError)):
        write_json(path, value)
    assert json.loads(path.read_text("utf-8")) == {"v": 1}


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_golden_rows_survive_their_file_whatever_the_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("golden")
    rows = [GoldenRow({"text": text}, {"label": text, "logits": [0.5, -1.0]}) for text in texts]
    write_golden(folder / GOLDEN, rows)
    assert Bundle(folder, manifest()).golden() == rows


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\x0c", "\r", "\n"])
def test_golden_row_may_hold_what_some_take_for_a_line_end(separator: str, tmp_path: Path) -> None:
    row = GoldenRow({"text": f"one{separator}two"}, {"logits": [1.0]})
    write_golden(tmp_path / GOLDEN, [row, row])
    assert Bundle(tmp_path, manifest()).golden() == [row, row]


def test_plain_row_is_json() -> None:
    row = {"label": "a", "score": np.float32(0.5), "logits": np.array([1, 2], np.float32), "id": np.array(3)}
    assert json.loads(json.dumps(plain(row))) == {"label": "a", "score": 0.5, "logits": [1, 2], "id": 3}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([1.0, 2.0], None),
        ([1.05, 2.0], None),
        ([1.2, 2.0], "logits differs by 0.2, more than 0.1"),
        ([1.0, float("nan")], "logits differs by nan"),
        ([1.0, float("inf")], "logits differs by inf"),
        ([1.0, 2.0, 3.0], r"logits has shape \[3\] instead of \[2\]"),
        (1.0, r"logits has shape \[\] instead of \[2\]"),
    ],
)
def test_difference_beyond_the_tolerance_is_told(answer: object, said: str | None) -> None:
    found = differences({"label": "x", "logits": answer}, {"label": "y", "logits": [1.0, 2.0]}, {"logits": 0.1})
    assert len(found) == (said is not None)
    if said:
        assert re.match(said, found[0])


@pytest.mark.parametrize("emptied", ["files", "tolerance"])
def test_bundle_that_nothing_proves_is_refused(emptied: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    reseal(folder, **{emptied: {}})
    with pytest.raises(BundleError, match="nothing proves the version"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["assets/extra.json", "model.onnx.data", ".hidden/deep/file"])
def test_file_slipped_into_the_version_is_named(name: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}", "utf-8")
    with pytest.raises(BundleError, match=f"no digest of {re.escape(name)}"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"tolerance": {"logits": 100.0}},
        {"files": {}},
        {"needs": []},
        {"gates": []},
        {"quality": {"accuracy": 1.0}},
        {"colour": "red"},
        {"digest": "sha256:0"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_manifest_that_was_changed_says_so(changed: dict[str, Any], tmp_path: Path) -> None:
    gates = [{"gate": "speed", "passed": False, "message": "slow", "figures": {}, "accepted": "for now"}]
    folder = write_bundle(tmp_path, stated={"needs": ("vnni",), "gates": gates})
    open_bundle(folder)
    write_json(folder / MANIFEST, {**manifest_of(folder), **changed})
    with pytest.raises(BundleError, match=r"manifest\.json was changed after it was written"):
        open_bundle(folder)


def test_digest_is_of_what_the_manifest_says_and_not_of_how_it_is_written(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    digest = open_bundle(folder).manifest.digest
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
    path = folder / MANIFEST
    path.write_text(json.dumps(dict(reversed(manifest_of(folder).items()))), "utf-8")
    assert open_bundle(folder).manifest.digest == digest
    (folder / "assets" / "labels.json").write_text('["a","b","c"]')
    reseal(folder)
    assert open_bundle(folder).manifest.digest != digest


def test_digest_of_a_table_that_has_numbers_for_keys_is_that_of_its_file() -> None:
    before = manifest(quality={"seconds": {9: 1.0, 10: 2.0}}).sealed()
    assert Manifest.from_json(json.loads(json.dumps(before.to_json()))).digest == before.digest


@pytest.mark.parametrize("accepted", ["", "the support team can live with it"])
def test_version_that_a_gate_refused_serves_only_where_somebody_accepted_it(accepted: str, tmp_path: Path) -> None:
    gates = [
        {"gate": "parity", "passed": True, "message": "fine", "figures": {}, "accepted": ""},
        {"gate": "accuracy", "passed": False, "message": "lost 3 points", "figures": {}, "accepted": accepted},
    ]
    folder = write_bundle(tmp_path, stated={"gates": gates})
    assert read_bundle(folder).manifest.gates == tuple(gates), "tools may look at it"
    if accepted:
        assert open_bundle(folder).manifest.gates[1]["accepted"] == accepted
    else:
        with pytest.raises(BundleError, match="in quarantine: gate accuracy did not pass: lost 3 points; .*--accept"):
            open_bundle(folder)


@pytest.mark.parametrize("name", ["../../outside/model.json", "/etc/passwd"])
def test_name_that_leaves_the_version_directory_is_refused(name: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    reseal(folder, graphs={"model": name}, files={name: "sha256:0"})
    with pytest.raises(BundleError, match="outside the version directory"):
        open_bundle(folder)
