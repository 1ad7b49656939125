"""Sabotage: whatever is changed in a version is caught by the check that is meant for it, and named."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundles.verification import Check, require, verify
from serving.bundle import MANIFEST, digest_folder, write_json
from serving.errors import BundleError
from tests.serving.bundles import manifest_of, write_bundle

CHECKS = ["digests", "place", "extras", "configuration", "golden rows"]


def failed(version: Path, key: Path | None = None) -> dict[str, str]:
    return {check.name: check.message for check in verify(version, key) if not check.passed}


def resigned(version: Path) -> None:
    """Have the manifest agree with files that were changed, as one who wants to hide it would."""
    manifest = manifest_of(version)
    (version / MANIFEST).unlink()
    write_json(version / MANIFEST, {**manifest, "files": digest_folder(version)})


@pytest.mark.parametrize("backend", ["stub", "onnxruntime"])
def test_a_version_that_is_as_it_was_exported_passes_every_check(repository: Path, backend: str) -> None:
    checks = list(verify(write_bundle(repository, backend=backend)))
    assert [check.name for check in checks] == CHECKS
    assert all(check.passed for check in checks)
    assert checks[-1].message.startswith(f"2 reproduced by {backend} on this host")


@pytest.mark.parametrize(
    "name", ["model.json", "golden.jsonl", "assets/labels.json", "assets/text.json", "assets/tokenizer.json"]
)
def test_a_flipped_bit_in_any_file_is_named(version: Path, name: str) -> None:
    assert name in manifest_of(version)["files"]  # type: ignore[operator]
    content = bytearray((version / name).read_bytes())
    content[len(content) // 2] ^= 1
    (version / name).write_bytes(content)
    assert failed(version) == {"digests": f"{name} was changed after it was written"}
    (version / name).unlink()
    assert f"{name} is missing" in failed(version)["digests"]


def test_a_flipped_bit_in_the_manifest_is_caught(version: Path) -> None:
    content = (version / MANIFEST).read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1
        (version / MANIFEST).write_bytes(changed)
        if failed(version):
            continue
        # What stands for people, or is a bound, may change and the answers still be right.
        before, after = json.loads(content), json.loads(changed)
        different = {key for key in before | after if before.get(key) != after.get(key)}
        assert different <= {"precision", "max_batch_size", "tolerance", "quality", "source"}, different


def golden_row_altered(version: Path) -> None:
    lines = [json.loads(line) for line in (version / "golden.jsonl").read_text("utf-8").splitlines()]
    lines[1]["answer"]["logits"][0] += 0.5
    (version / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def labels_swapped(version: Path) -> None:
    labels = json.loads((version / "assets" / "labels.json").read_text())
    write_json(version / "assets" / "labels.json", [labels[1], labels[0], *labels[2:]])


def tokenizer_changed(version: Path) -> None:
    tokenizer = json.loads((version / "assets" / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["z"] = vocabulary["z"], vocabulary["a"]
    write_json(version / "assets" / "tokenizer.json", tokenizer)


def golden_row_without_answer(version: Path) -> None:
    (version / "golden.jsonl").write_text('{"row": {"text": "a"}, "answer": {}}\n')


def graph_of_nothing(version: Path) -> None:
    (version / "model.json").write_text("no graph")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (golden_row_altered, r"1 of 2 golden rows are not reproduced; first: golden row 1 .*logits differs by 0\.5"),
        (labels_swapped, "golden rows are not reproduced.*label is '.*' instead of"),
        (tokenizer_changed, "golden rows are not reproduced.*logits differs by"),
        (golden_row_without_answer, "cannot be checked here .KeyError"),
        (graph_of_nothing, "graphs cannot be read"),
    ],
)
def test_what_digests_no_longer_show_the_golden_rows_do(
    version: Path, change: Callable[[Path], None], said: str
) -> None:
    change(version)
    resigned(version)
    found = failed(version)
    assert list(found) == ["golden rows"]
    assert re.search(said, found["golden rows"])


def test_files_that_came_later_are_named(version: Path) -> None:
    (version / "notes.txt").write_text("x")
    assert list(failed(version)) == ["extras"]
    assert failed(version)["extras"].startswith("notes.txt: without a digest")
    (version / "notes.txt").unlink()
    (version / "model.sig").write_text("a signature cannot be in what it signs")
    assert failed(version) == {}


def test_a_renamed_version_says_what_it_was(version: Path) -> None:
    renamed = version.rename(version.with_name("2"))
    assert "the manifest says intent/1" in failed(renamed)["place"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("backend {", "not a Triton model configuration"),
        ('name: "other"', "name is 'other', the directory 'intent'"),
        ('input { name: "image" data_type: TYPE_FP32 dims: 1 }', "'image'"),
        ('backend: "python"', "another Triton backend, 'python'"),
        (None, "config.pbtxt: cannot be read"),
    ],
)
def test_a_configuration_of_something_else_is_caught(version: Path, config: str | None, said: str) -> None:
    path = version.parent / "config.pbtxt"
    path.unlink() if config is None else path.write_text(config)
    found = failed(version)
    assert list(found) == ["configuration"]
    assert said in found["configuration"]


def test_messages_are_about_files_of_the_version(version: Path) -> None:
    (version / "model.json").unlink()
    assert str(version) not in failed(version)["digests"]
    (version / MANIFEST).unlink()
    assert failed(version)["digests"].startswith("manifest.json: cannot be read")


def test_a_manifest_of_the_future_is_told(version: Path) -> None:
    write_json(version / MANIFEST, {**manifest_of(version), "format": 99})
    assert "format 99" in failed(version)["digests"]


def test_a_required_signature_is_asked_for(version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(folder: Path, key: Path) -> None:
        asked.append((folder, key))
        raise BundleError(f"{folder}: is not signed")

    monkeypatch.setitem(sys.modules, "serving.signature", SimpleNamespace(verify=refuse))
    assert failed(version, tmp_path / "key") == {"signature": "is not signed"}
    assert asked == [(version, tmp_path / "key")]
    monkeypatch.setitem(sys.modules, "serving.signature", SimpleNamespace(verify=lambda folder, key: None))
    assert Check("signature", True, f"made with {tmp_path / 'key'}") in list(verify(version, tmp_path / "key"))


def test_what_is_required_is_told_all_at_once(version: Path) -> None:
    require(version)
    (version / "notes.txt").write_text("x")
    (version.parent / "config.pbtxt").unlink()
    with pytest.raises(BundleError, match=r"intent/1: extras: notes\.txt.*; configuration: config\.pbtxt"):
        require(version)
