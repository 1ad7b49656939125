"""A version directory is whole and proved, or it is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import bundle_writer
from export.bundle_writer import Contents, check_name, next_version
from serving.bundle import GoldenRow, digest_folder, open_bundle, plain
from serving.errors import BundleError, InvalidInput
from serving.manifest import Manifest
from serving.tasks.text_classification import TextClassification
from tests.serving.bundles import GOLDEN_ROWS, answered, write_assets, write_graph


def write(
    folder: Path,
    version: int = 1,
    *,
    shift: float = 0.0,
    name: str = "toy",
    golden: int | None = None,
    private_key: Path | None = None,
) -> Path:
    """Write a bundle of the stub backend into ``folder/repository``; ``shift`` is added to the golden logits."""
    sources = folder / f"sources-{version}-{shift}-{golden}"
    sources.mkdir()
    assets, graph = write_assets(sources / "assets"), write_graph(sources / "model.json", "stub")
    task = TextClassification.open(assets)
    rows = []
    for row in GOLDEN_ROWS[:golden]:
        answer = answered(task, "stub", graph, row)
        rows.append(GoldenRow(row, plain({**answer, "logits": np.asarray(answer["logits"]) + shift})))
    manifest = Manifest(
        name=name,
        version=version,
        task="text-classification",
        backend="stub",
        precision="fp32",
        graphs={"model": "model.json"},
        tolerance={"logits": 1e-4},
        max_batch_size=4,
    )
    contents = Contents(task, {"model": graph}, assets, rows)
    return bundle_writer.write(folder / "repository", manifest, contents, private_key)


def test_what_is_written_opens_and_proves_itself(tmp_path: Path) -> None:
    final = write(tmp_path)
    assert final == tmp_path / "repository" / "toy" / "1"
    names = ["assets", "golden.jsonl", "labels.txt", "manifest.json", "model.json"]
    assert sorted(path.name for path in final.iterdir()) == names
    assert sorted(path.name for path in final.parent.iterdir()) == ["1", "config.pbtxt"]
    bundle = open_bundle(final)
    digests = digest_folder(final)
    del digests["manifest.json"]
    assert bundle.manifest.files == digests
    assert [golden.row for golden in bundle.golden()] == list(GOLDEN_ROWS)


def test_golden_rows_that_are_not_reproduced_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="2 of 2 golden rows are not reproduced"):
        write(tmp_path, shift=0.01)
    assert list((tmp_path / "repository").iterdir()) == []


def test_a_bundle_that_nothing_proves_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no golden rows"):
        write(tmp_path, golden=0)
    assert list((tmp_path / "repository").iterdir()) == []


def test_a_failing_second_version_leaves_the_first_untouched(tmp_path: Path) -> None:
    write(tmp_path)
    before = digest_folder(tmp_path / "repository")
    with pytest.raises(BundleError):
        write(tmp_path, 2, shift=0.01)
    assert digest_folder(tmp_path / "repository") == before
    assert sorted(path.name for path in (tmp_path / "repository" / "toy").iterdir()) == ["1", "config.pbtxt"]


def test_an_export_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_writer, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert list((tmp_path / "repository").iterdir()) == []


def test_what_a_killed_export_left_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / "repository" / "toy" / ".1.writing"
    left.mkdir(parents=True)
    (left / "half.onnx").write_bytes(b"half")
    final = write(tmp_path)
    assert not (final / "half.onnx").exists()
    assert not left.exists()


def test_versions_count_up_and_other_things_do_not_count(tmp_path: Path) -> None:
    assert next_version(tmp_path / "none") == 1
    for name in ("1", "2", "10", "7x", ".11.writing", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "99").write_text("a file")
    assert next_version(tmp_path) == 11


def test_the_manifest_is_plain_json_with_its_format(tmp_path: Path) -> None:
    manifest = json.loads((write(tmp_path) / "manifest.json").read_text("utf-8"))
    assert manifest["format"] == 2
    assert manifest["graphs"] == {"model": "model.json"}


@pytest.mark.parametrize("name", ["tickets", "a", "Tickets-2.1_b", "0day"])
def test_names_of_directories_are_taken(name: str, tmp_path: Path) -> None:
    check_name(name)
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "_x", "a/b", "../a", "a b", "a\n", "ä", "a:b", "a\0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="--name"):
        check_name(name)
