"""``downstream export``: a verified bundle, or an exit code, a report and nothing in the repository."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from transformers import AutoModelForSequenceClassification

from export import judging
from export.__main__ import FAULTY, main
from export.gates import accuracy, graph, speed
from export.int8 import dynamic, static
from export.options import parser
from export.rungs import LADDER
from serving import model_config
from serving.bundle import digest_folder, open_bundle
from serving.engine import Engine
from serving.errors import BundleError
from serving.settings import Settings
from tests.export.conftest import Export
from tests.finetune import toy


def damage(patch: pytest.MonkeyPatch, kind: str, *quantizers: str) -> None:
    """Make quantizers, both by default, go wrong: weights in another order, or no integer product at all."""
    for name in quantizers or ("static", "dynamic"):
        module = {"static": static, "dynamic": dynamic}[name]
        patch.setattr(module, f"{name}_int8", damaging(kind, getattr(module, f"{name}_int8")))


def damaging(kind: str, quantized: Callable[..., None]) -> Callable[..., None]:
    def damaged(source: Path, target: Path, *calibration: Any, **options: Any) -> None:
        if kind == "left in floats":
            shutil.copyfile(source, target)
            return
        quantized(source, target, *calibration, **options)
        model = onnx.load(target)
        matrices = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2]
        head = [tensor for tensor in matrices if min(tensor.dims) == 2]
        for tensor in head if kind == "one layer too coarse" else matrices:
            weights = onnx.numpy_helper.to_array(tensor)
            changed = weights[::-1] if kind == "reversed" else np.zeros_like(weights)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(changed), tensor.name))
        onnx.save(model, target)

    return damaged


def as_before_calibration(own: Path) -> Path:
    """The checkpoint as it was written before there were calibration rows."""
    manifest = json.loads((own / "checkpoint.json").read_text("utf-8"))
    del manifest["files"]["calibration.jsonl"]
    (own / "checkpoint.json").write_text(json.dumps(manifest))
    (own / "calibration.jsonl").unlink()
    return own


# -- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_bundle_is_complete(precision: str, request: pytest.FixtureRequest, checkpoint: Path) -> None:
    folder: Path = request.getfixturevalue(precision)
    assert digest_folder(folder).keys() == {
        "manifest.json",
        "model.onnx",
        "golden.jsonl",
        "labels.txt",
        "README.md",
        "export_report.html",
        "assets/labels.json",
        "assets/text.json",
        "assets/tokenizer.json",
    }
    assert digest_folder(folder / "assets") == digest_folder(checkpoint / "assets")
    bundle = open_bundle(folder)
    assert (bundle.manifest.name, bundle.manifest.version) == ("toy", 1)
    assert (bundle.manifest.task, bundle.manifest.backend) == ("text-classification", "onnxruntime")
    assert bundle.manifest.precision == {"fp32": "fp32", "int8": "int8-static"}[precision]
    assert bundle.manifest.batch_invariant
    assert bundle.manifest.graphs == {"model": "model.onnx"}


def test_the_manifest_says_what_it_was_made_of_and_what_it_is_worth(int8: Path, checkpoint: Path) -> None:
    manifest = open_bundle(int8).manifest
    trained = json.loads((checkpoint / "checkpoint.json").read_text("utf-8"))
    for key in ("base_model", "data_digest", "seed"):
        assert manifest.source[key] == trained[key]
    weights = "model/model.safetensors"
    assert manifest.source["weights"] == {weights: trained["files"][weights]}
    assert manifest.quality.keys() == {"pytorch", "fp32", "int8-static"}
    metrics = json.loads((checkpoint / "metrics.json").read_text("utf-8"))
    assert manifest.quality["pytorch"]["accuracy"] == pytest.approx(metrics["validation"]["accuracy"], abs=1e-5)
    assert manifest.quality["fp32"]["agreement"] == 1.0
    assert manifest.quality["int8-static"]["bytes"] < manifest.quality["fp32"]["bytes"]
    assert manifest.quality["int8-static"]["verdict"].startswith("kept")
    assert manifest.quality["int8-static"]["in_batches"] == {"rows": 32, "batches": 20, "flips": 0, "difference": 0.0}
    assert manifest.quality["int8-static"]["rows_per_second"] > 0
    for key in ("base_revision", "checkpoint", "recipe", "trained_with", "exported_with", "git_commit", "exported"):
        assert manifest.source[key]
    assert manifest.host["cores"] >= 1
    assert [gate["gate"] for gate in manifest.gates] == [gate.NAME for gate in judging.GATES]
    assert all(gate["passed"] or gate["accepted"] == "a toy" for gate in manifest.gates)


def test_golden_rows_are_validation_rows_of_every_label_and_are_reproduced(int8: Path, checkpoint: Path) -> None:
    bundle = open_bundle(int8)
    golden = bundle.golden()
    rows = [json.loads(line) for line in (checkpoint / "validation.jsonl").read_text("utf-8").splitlines()]
    requests = [{name: row[name] for name in ("text", "text_pair")} for row in rows]
    assert all(one.row in requests for one in golden)
    assert {one.answer["label"] for one in golden} == {toy.GOOD, toy.BAD}
    assert 1e-3 <= bundle.manifest.tolerance["logits"] < 0.5
    engine = Engine.load(bundle, Settings(runners=1))
    try:
        for one in golden:
            answer = engine.submit(one.row).result(timeout=30)
            assert np.max(np.abs(answer["logits"] - one.answer["logits"])) <= bundle.manifest.tolerance["logits"]
    finally:
        engine.close()


def test_a_model_of_pairs_asks_for_both_texts(int8: Path) -> None:
    config = model_config.read(int8.parent)
    assert [field.name for field in config.input][:2] == ["text", "text_pair"]
    assert config.input[2].name == "input_ids"
    assert (config.name, config.backend, config.max_batch_size) == ("toy", "downstream", 32)


def test_the_report_lies_in_the_checkpoint_and_in_the_bundle(int8: Path) -> None:
    report = int8.parent.parent.parent / "toy" / "export"
    found = json.loads((report / "export_report.json").read_text("utf-8"))
    assert found["kept"] == "int8-static"
    assert {swept["rows"] for swept in found["sweep"]} == {1, 2, 3, 4, 5}
    for page in (report / "export_report.html", int8 / "export_report.html"):
        assert "matrix products in integers" in page.read_text("utf-8")
    assert "# toy, version 1" in (int8 / "README.md").read_text("utf-8")


def test_versions_count_up_and_the_old_one_is_left_untouched(own: Path, quickly: Export, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    assert quickly(own, "--precision", "fp32", "--repository", repository, "--max-batch-size", "4") == 0
    before = digest_folder(repository / "toy" / "1")
    assert quickly(own, "--precision", "fp32", "--repository", repository, "--max-batch-size", "8") == 0
    assert digest_folder(repository / "toy" / "1") == before
    assert open_bundle(repository / "toy" / "2").manifest.version == 2
    assert sorted(path.name for path in (repository / "toy").iterdir()) == ["1", "2", "config.pbtxt"]
    assert model_config.read(repository / "toy").max_batch_size == 8


def test_fewer_rows_to_verify_on_and_another_name(own: Path, quickly: Export, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    assert quickly(own, "--precision", "fp32", "--repository", repository, "--name", "other", "--rows", "5") == 0
    assert len(open_bundle(repository / "other" / "1").golden()) <= 5
    assert "5 validation rows" in (own / "export" / "export_report.html").read_text("utf-8")


def test_the_graph_of_the_bundle_is_fitted_to_a_triton_release(own: Path, quickly: Export, tmp_path: Path) -> None:
    arguments = (own, "--precision", "fp32", "--repository", tmp_path)
    assert quickly(*arguments) == quickly(*arguments, "--triton-release", "24.04") == 0
    before, after = (open_bundle(tmp_path / "toy" / version).manifest.source["graph"] for version in "12")
    assert after["ir_version"] == onnx.load(tmp_path / "toy" / "2" / "model.onnx").ir_version == 9
    assert after["ir_version"] < before["ir_version"]


# -- gates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "gate", "code", "told"),
    [
        ("reversed", "accuracy", accuracy.CODE, "accuracy of int8"),
        ("left in floats", "graph", graph.CODE, "matrix products in integers: the optimized graph has 0"),
    ],
)
def test_a_failed_gate_writes_a_report_and_a_bundle_in_quarantine(
    own: Path,
    quickly: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    gate: str,
    code: int,
    told: str,
) -> None:
    damage(monkeypatch, kind)
    assert quickly(own, "--repository", tmp_path / "repository") == code
    assert not (tmp_path / "repository").exists()
    error = capsys.readouterr().err
    assert "gate failed: " in error
    assert told in error
    assert f"nothing was written to {tmp_path / 'repository'}" in error
    assert str(own / "export" / "export_report.html") in error
    found = json.loads((own / "export" / "export_report.json").read_text("utf-8"))
    assert found["kept"] is None
    # Every kind of the ladder was tried, and is told.
    assert found["candidates"].keys() | {remark.split()[0] for remark in found["remarks"]} >= {"fp32", *LADDER}
    assert told in (own / "export" / "export_report.html").read_text("utf-8")
    quarantined = tmp_path / "quarantine" / "toy" / "1"
    assert not (quarantined.parent / "config.pbtxt").exists()
    assert told in (quarantined / "export_report.html").read_text("utf-8")
    with pytest.raises(BundleError, match=f"{gate}"):
        open_bundle(quarantined)


def test_an_over_quantized_layer_is_caught_and_then_left_in_floats(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch, "one layer too coarse", "static")
    assert quickly(own, "--repository", tmp_path) == 0
    manifest = open_bundle(tmp_path / "toy" / "1").manifest
    assert manifest.quality["int8-static"]["verdict"].startswith("rejected: accuracy of int8-static")
    assert manifest.precision == "int8-static-mixed12"


def test_a_kind_that_cannot_be_made_is_told_and_the_next_one_is_tried(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refused(Exception):
        """As ONNX Runtime's own, which are of no known kind."""

    def refusing(*words: Any, **options: Any) -> None:
        raise Refused("rank mismatch")

    monkeypatch.setattr(static, "static_int8", refusing)
    assert quickly(own, "--repository", tmp_path / "repository") == 0
    assert open_bundle(tmp_path / "repository" / "toy" / "1").manifest.precision == "int8-dynamic-tensor"
    assert "int8-static could not be made: rank mismatch" in capsys.readouterr().out
    assert "int8-static could not be made: rank mismatch" in (own / "export" / "export_report.html").read_text("utf-8")

    def full(*words: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(static, "static_int8", full)
    assert quickly(own, "--repository", tmp_path / "full") == FAULTY
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "full").exists()


def test_a_gate_that_is_accepted_is_recorded_for_ever(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch, "left in floats")
    arguments = (own, "--repository", tmp_path / "repository", "--precision", "int8-static")
    assert quickly(*arguments, accept=()) in (speed.CODE, graph.CODE)
    assert quickly(*arguments, accept=("speed=a toy", "graph=floats = fine")) == 0
    gates = {gate["gate"]: gate for gate in open_bundle(tmp_path / "repository" / "toy" / "1").manifest.gates}
    assert (gates["graph"]["passed"], gates["graph"]["accepted"]) == (False, "floats = fine")


def test_a_failed_gate_leaves_the_versions_before_it(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    assert quickly(own, "--precision", "fp32", "--repository", repository) == 0
    before = digest_folder(repository)
    damage(monkeypatch, "reversed")
    assert quickly(own, "--repository", repository, "--precision", "int8-static") == accuracy.CODE
    assert digest_folder(repository) == before


def test_the_user_decides_how_much_may_be_lost(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch, "reversed")
    static_only = ("--precision", "int8-static")
    assert quickly(own, "--repository", tmp_path / "repository", "--tolerance", "100", *static_only) == 0
    nothing = quickly(own, "--repository", tmp_path / "other", "--tolerance", str(math.nan), *static_only)
    assert nothing == accuracy.CODE


def test_where_static_graphs_lose_too_much_a_dynamic_one_is_kept(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(monkeypatch, "reversed", "static")
    assert quickly(own, "--repository", tmp_path) == 0
    manifest = open_bundle(tmp_path / "toy" / "1").manifest
    assert manifest.precision == "int8-dynamic-tensor"
    assert manifest.quality["int8-static"]["verdict"].startswith("rejected: accuracy of int8-static")
    assert manifest.quality["int8-dynamic-tensor"]["verdict"].startswith("kept")
    assert "int8-dynamic" not in manifest.quality
    page, said = (own / "export" / "export_report.html").read_text("utf-8"), capsys.readouterr().out
    for candidate in ("int8-static", "int8-static-smooth", "int8-dynamic-tensor"):
        assert candidate in page
        assert candidate in said


def test_a_kind_that_was_asked_for_is_the_only_one_tried(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quickly(own, "--repository", tmp_path / "dynamic", "--precision", "int8-dynamic") == 0
    manifest = open_bundle(tmp_path / "dynamic" / "toy" / "1").manifest
    assert manifest.precision == "int8-dynamic"
    assert manifest.quality.keys() == {"pytorch", "fp32", "int8-dynamic"}
    damage(monkeypatch, "reversed", "static")
    static_only = ("--precision", "int8-static")
    assert quickly(own, "--repository", tmp_path / "static", *static_only) == accuracy.CODE


def test_the_best_of_all_kinds_is_the_one_that_answers_most_rows(own: Path, quickly: Export, tmp_path: Path) -> None:
    assert quickly(own, "--repository", tmp_path, "--best") == 0
    manifest = open_bundle(tmp_path / "toy" / "1").manifest
    tried = {name: figures for name, figures in manifest.quality.items() if name.startswith("int8")}
    assert tried.keys() == set(LADDER)
    passed = {name for name, figures in tried.items() if not figures["verdict"].startswith("rejected")}
    assert manifest.precision == max(passed, key=lambda name: tried[name]["rows_per_second"])


def test_an_older_checkpoint_is_exported_dynamically_and_told_why(
    own: Path, quickly: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_before_calibration(own)
    assert quickly(own, "--repository", tmp_path / "repository") == 0
    assert "static kinds are left out: the checkpoint is older than calibration.jsonl" in capsys.readouterr().out
    assert open_bundle(tmp_path / "repository" / "toy" / "1").manifest.precision == "int8-dynamic-tensor"
    told = refused(capsys, own, "--repository", tmp_path / "other", "--precision", "int8-static")
    assert "calibration.jsonl" in told
    assert "int8-dynamic" in told


def test_a_graph_that_is_not_the_model_is_not_written(
    own: Path, quickly: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter's graph is of other weights than the checkpoint's."""
    load = AutoModelForSequenceClassification.from_pretrained

    def other(*args: Any) -> Any:
        model = load(*args)
        model.classifier.bias.data += 1
        return model

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", other)
    assert quickly(own, "--repository", tmp_path / "repository") == judging.NOT_MADE == 3
    assert "differs from PyTorch" in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()
    assert "differs from PyTorch" in (own / "export" / "export_report.html").read_text("utf-8")


# -- what is refused at the door --------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main([str(word) for word in argv]) == FAULTY == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "with space"])
def test_a_bad_name_is_told_at_once(own: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "--name" in refused(capsys, own, "--name", name)
    assert not (own / "export").exists()


def test_a_damaged_checkpoint_is_refused(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (own / "model" / "model.safetensors").open("ab") as file:
        file.write(b" ")
    told = refused(capsys, own, "--repository", tmp_path / "repository")
    assert "model/model.safetensors was changed after it was written" in told
    assert not (tmp_path / "repository").exists()


def test_an_unfinished_or_missing_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a finished checkpoint" in refused(capsys, tmp_path / "none")
    (tmp_path / "run" / "trainer").mkdir(parents=True)
    assert "continue it with --resume" in refused(capsys, tmp_path / "run")


@pytest.mark.parametrize("option", ["--rows", "--max-batch-size"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_that_make_no_sense_are_refused(own: Path, option: str, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(own), option, value])
    assert caught.value.code == 2


def test_the_examples_of_the_help_are_real() -> None:
    examples = [
        shlex.split(line) for line in parser().format_help().splitlines() if line.startswith("  downstream export ")
    ]
    assert len(examples) >= 3
    for words in examples:
        parser().parse_args(words[2:])
