"""Sabotage: whatever is changed in a version is caught by the check that is meant for it, and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bundles.verification import Check, require, verify
from export.signing import sign
from serving.bundle import write_json
from serving.errors import BundleError
from serving.manifest import MANIFEST, SIGNATURE
from tests.bundles.gates import failed_gate, passed_gate
from tests.serving.bundles import manifest_of, reseal, write_bundle
from tests.serving.keys import pair

CHECKS = ["digests", "gates", "place", "configuration", "golden rows"]


def failed(version: Path, key: Path | None = None) -> dict[str, str]:
    return {check.name: check.message for check in verify(version, key) if not check.passed}


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
        # What stands between the values may change: white space, and the case of an escape.
        with suppress(ValueError):
            if json.loads(changed) == json.loads(content):
                continue
        assert list(failed(version)) == ["digests"], place


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
    reseal(version)
    found = failed(version)
    assert list(found) == ["golden rows"]
    assert re.search(said, found["golden rows"])


def test_files_that_came_later_are_named(version: Path) -> None:
    (version / "notes.txt").write_text("x")
    assert list(failed(version)) == ["digests"]
    assert "has no digest of notes.txt" in failed(version)["digests"]
    (version / "notes.txt").unlink()
    (version / SIGNATURE).write_text("a signature cannot be in what it signs")
    assert failed(version) == {}


def test_every_gate_that_failed_is_a_check_that_fails(version: Path) -> None:
    gates = [passed_gate("parity"), failed_gate("speed"), failed_gate("graph"), failed_gate("accuracy", "for now")]
    reseal(version, gates=gates)
    assert failed(version) == {
        f"gate {name}": "too slow; nobody accepted that: in quarantine" for name in ("speed", "graph")
    }
    (version.parent / "config.pbtxt").unlink()
    assert "configuration" not in failed(version), "in quarantine there is none, by intent"
    reseal(version, gates=[gates[0], gates[3]])
    assert Check("gates", True, "1 passed; accuracy is accepted: for now") in list(verify(version))


def test_graphs_are_opened_as_the_server_opens_them(version: Path) -> None:
    """Without a remedy for what this processor lacks, they would compute something else."""
    reseal(version, needs=["no_such_instructions"])
    assert list(failed(version)) == ["golden rows"]
    assert "no_such_instructions, which this CPU has not" in failed(version)["golden rows"]


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
    reseal(version, format=99)
    assert "format 99 is newer" in failed(version)["digests"]


def test_a_required_signature_is_that_of_the_key(version: Path, tmp_path: Path) -> None:
    ours, theirs = pair(tmp_path, "ours"), pair(tmp_path, "theirs")
    sign(version, ours.private)
    assert Check("signature", True, f"made with {ours.public}") in list(verify(version, ours.public))
    require(version, ours.public)
    assert "Key mismatch" in failed(version, theirs.public)["signature"]
    reseal(version, tolerance={"logits": 9.0})
    assert f"Hash mismatch for '{MANIFEST}'" in failed(version, ours.public)["signature"]


def test_nothing_is_run_without_the_signature_that_is_required(version: Path, tmp_path: Path) -> None:
    checks = list(verify(version, pair(tmp_path, "ours").public))
    assert [(check.name, check.passed) for check in checks] == [("digests", True), ("signature", False)]
    assert checks[-1].message.startswith("is not signed")


def test_what_is_required_is_told_all_at_once(version: Path) -> None:
    require(version)
    reseal(version, version=7)
    (version.parent / "config.pbtxt").unlink()
    with pytest.raises(BundleError, match=r"intent/1: place: .* says intent/7.*; configuration: config\.pbtxt"):
        require(version)
