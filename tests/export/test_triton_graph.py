"""``downstream export --triton-graph``: beside the bundle, a graph that Triton serves alone; both or neither."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from prometheus_client import CollectorRegistry
from tritonclient.grpc import model_config_pb2 as pb

from export import graph_version, invariance, triton_config, triton_graph, triton_validation
from export.__main__ import FAULTY, main
from export.child import ExportError
from export.judging import NOT_MADE
from export.options import parser
from export.triton_releases import find
from serving import model_config
from serving.backends import open_backend
from serving.bundle import Bundle, differences, digest_folder, open_bundle
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from serving.tensors import sizes, stack, unstack
from tests.export.conftest import Export

INPUTS = ["input_ids", "token_type_ids", "attention_mask"]


def exported(quickly: Export, checkpoint: Path, folder: Path, *words: str) -> Path:
    """The directory of the graph model of an export."""
    own = Path(shutil.copytree(checkpoint, folder / "toy"))
    assert quickly(own, "--repository", folder / "repository", "--triton-graph", *words) == 0
    return folder / "repository" / "toy_graph"


@pytest.fixture(scope="module")
def floats(quickly: Export, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph model of the FP32 graph, for two CPU cores. Read only."""
    words = ("--precision", "fp32", "--max-batch-size", "8", "--triton-instances", "2")
    return exported(quickly, checkpoint, tmp_path_factory.mktemp("floats"), *words)


@pytest.fixture(scope="module")
def integers(quickly: Export, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph model of the default precision, static INT8. Read only."""
    return exported(quickly, checkpoint, tmp_path_factory.mktemp("integers"))


@pytest.fixture(scope="module")
def dependent(quickly: Export, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph model whose answers depend on the batch, as found out at export: dynamic INT8. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invariance, "BOUND", 0.0)  # the toy is too small to show it by itself
        return exported(quickly, checkpoint, tmp_path_factory.mktemp("dependent"), "--precision", "int8-dynamic")


def bundle_of(model: Path) -> Bundle:
    (version,) = (path.name for path in model.iterdir() if path.name.isdigit())
    return open_bundle(model.parent / "toy" / version)


# -- what is written --------------------------------------------------------------------------------------------------


def test_it_is_a_plain_triton_model(floats: Path) -> None:
    names = [f"warmup/1-{number}-{name}" for number in range(4) for name in INPUTS]
    assert digest_folder(floats).keys() == {"config.pbtxt", "1/model.onnx", *names}
    config = model_config.read(floats)
    assert (config.name, config.backend, config.max_batch_size) == ("toy_graph", "onnxruntime", 8)
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        (name, pb.TYPE_INT64, [-1]) for name in INPUTS
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [("logits", pb.TYPE_FP32, [2])]
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert config.version_policy.latest.num_versions == 1
    assert [(group.kind, group.count) for group in config.instance_group] == [(pb.ModelInstanceGroup.KIND_CPU, 2)]


def test_whoever_opens_the_configuration_reads_what_the_caller_has_to_do(floats: Path, dependent: Path) -> None:
    first, second, *_ = (floats / "config.pbtxt").read_text().splitlines()
    assert first == "# The graph of toy, version 1, for Triton 24.10 and newer."
    assert "pads the rows of a request to one length; requests of equal shape are batched" in second
    assert "One row a request" in (dependent / "config.pbtxt").read_text().splitlines()[1]


@pytest.mark.parametrize("kind", ["floats", "integers", "dependent"])
def test_a_graph_that_fits_is_the_one_of_the_bundle(kind: str, request: pytest.FixtureRequest) -> None:
    model: Path = request.getfixturevalue(kind)
    assert (model / "1" / "model.onnx").read_bytes() == (bundle_of(model).folder / "model.onnx").read_bytes()


def test_a_graph_whose_answers_depend_on_the_batch_is_never_batched(dependent: Path) -> None:
    config = model_config.read(dependent)
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")
    assert bundle_of(dependent).manifest.max_batch_size == 32
    assert not bundle_of(dependent).manifest.batch_invariant


def test_static_int8_is_batched_as_fp32_is(integers: Path) -> None:
    config = model_config.read(integers)
    assert config.max_batch_size == 32
    assert config.HasField("dynamic_batching")


@pytest.mark.parametrize("kind", ["floats", "integers", "dependent"])
def test_a_caller_with_the_bundle_gets_the_golden_answers(kind: str, request: pytest.FixtureRequest) -> None:
    model: Path = request.getfixturevalue(kind)
    bundle = bundle_of(model)
    task = bundle.open_task()
    (graph,) = task.graphs.values()
    backend = open_backend("onnxruntime", {"g": model / "1" / "model.onnx"})
    for golden in bundle.golden():
        encoded = task.encode(golden.row)
        outputs = backend.run("g", stack([encoded], graph.inputs))
        (own,) = unstack(outputs, graph.outputs, [sizes(encoded, graph.inputs)])
        assert differences(task.decode(encoded, own), golden.answer, bundle.manifest.tolerance) == []


def test_the_warm_up_is_golden_rows_from_short_to_long(floats: Path) -> None:
    bundle = bundle_of(floats)
    golden = [bundle.open_task().encode(one.row)["input_ids"] for one in bundle.golden()]
    config = model_config.read(floats)
    lengths = [sample.inputs["input_ids"].dims[0] for sample in config.model_warmup]
    assert lengths == sorted(set(lengths))
    assert (lengths[0], lengths[-1]) == (min(map(len, golden)), max(map(len, golden)))
    for sample in config.model_warmup:
        ids = np.fromfile(floats / "warmup" / sample.inputs["input_ids"].input_data_file, "<i8")
        assert any(np.array_equal(ids, row) for row in golden)


@pytest.mark.parametrize("kind", ["floats", "integers", "dependent"])
def test_the_validator_finds_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    model: Path = request.getfixturevalue(kind)
    assert triton_validation.validate(model, find("24.10")).faults == []
    assert triton_validation.main([str(model)]) == 0


def test_the_report_says_for_what_it_was_fitted(floats: Path) -> None:
    found = json.loads((floats.parent.parent / "toy" / "export" / "export_report.json").read_text("utf-8"))
    (fitted,) = found["remarks"]
    assert fitted.startswith("Triton 24.10 (ONNX Runtime 1.19.2: ")
    assert "32 of 32 golden rows reproduced" in fitted


def test_the_gateway_leaves_it_to_triton(floats: Path) -> None:
    repository = Repository(floats.parent, Settings(runners=1), Metrics(CollectorRegistry()))
    repository.load_all()
    try:
        assert repository.ready
        assert [(entry.name, entry.state) for entry in repository.index()] == [("toy", "READY")]
    finally:
        repository.close()


def test_where_it_was_written_is_told(
    own: Path, quickly: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quickly(own, "--precision", "fp32", "--repository", tmp_path / "r", "--triton-graph") == 0
    said = capsys.readouterr().out.splitlines()
    assert f"bundle:     {tmp_path / 'r' / 'toy' / '1'}" in said
    assert f"graph:      {tmp_path / 'r' / 'toy_graph' / '1'}" in said


# -- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_those_of_the_bundle_and_the_old_one_stays(own: Path, quickly: Export, tmp_path: Path) -> None:
    words = [own, "--precision", "fp32", "--repository", tmp_path / "r"]
    assert quickly(*words) == 0
    assert quickly(*words, "--triton-graph") == 0
    assert quickly(*words, "--triton-graph") == 0
    model = tmp_path / "r" / "toy_graph"
    assert sorted(path.name for path in model.iterdir()) == ["2", "3", "config.pbtxt", "warmup"]
    assert {path.name.split("-")[0] for path in (model / "warmup").iterdir()} == {"3"}
    assert triton_validation.validate(model, find("24.10")).faults == []
    # The bundles went, the graph model did not: a version is never written twice.
    shutil.rmtree(tmp_path / "r" / "toy")
    assert quickly(*words, "--triton-graph") == 0
    assert sorted(path.name for path in (tmp_path / "r" / "toy").iterdir()) == ["4", "config.pbtxt"]
    assert (model / "4").is_dir()


@pytest.mark.parametrize("left", ["1/model.onnx", "warmup/1-0-input_ids", ".1.writing/toy_graph/config.pbtxt"])
def test_what_a_killed_export_left_is_no_obstacle(own: Path, quickly: Export, tmp_path: Path, left: str) -> None:
    model = tmp_path / "r" / "toy_graph"
    (model / left).parent.mkdir(parents=True)
    (model / left).write_bytes(b"half")
    assert quickly(own, "--precision", "fp32", "--repository", tmp_path / "r", "--triton-graph") == 0
    assert triton_validation.validate(model, find("24.10")).faults == []
    assert not [path for path in model.iterdir() if path.name.startswith(".")]


def test_when_the_disk_fails_at_the_last_step_the_model_is_as_good_as_before(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [own, "--precision", "fp32", "--repository", tmp_path / "r", "--triton-graph"]
    assert quickly(*words) == 0
    model, write = tmp_path / "r" / "toy_graph", triton_config.write
    before = (model / "config.pbtxt").read_text()

    def failing(folder: Path, content: str) -> None:
        if folder == model:
            raise OSError("no space left on device")
        write(folder, content)

    monkeypatch.setattr(triton_config, "write", failing)
    assert quickly(*words) == FAULTY
    assert (model / "config.pbtxt").read_text() == before
    assert triton_validation.validate(model, find("24.10")).faults == []


# -- TensorRT ---------------------------------------------------------------------------------------------------------


def test_tensorrt_gets_the_ranges_of_this_model(own: Path, quickly: Export, tmp_path: Path) -> None:
    words = ["--precision", "fp32", "--max-batch-size", "4", "--triton-graph", "--triton-accelerator", "tensorrt"]
    assert quickly(own, "--repository", tmp_path / "r", *words) == 0
    model = tmp_path / "r" / "toy_graph"
    config = model_config.read(model)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    longest = bundle_of(model).open_task().max_sizes["length"]
    assert accelerator.parameters["trt_profile_max_shapes"] == ",".join(f"{name}:4x{longest}" for name in INPUTS)
    assert {group.kind for group in config.instance_group} == {pb.ModelInstanceGroup.KIND_GPU}
    assert "The server builds the FP16 engine" in (model / "config.pbtxt").read_text()
    assert triton_validation.validate(model, find("24.10")).faults == []


# -- what cannot be fitted --------------------------------------------------------------------------------------------


def test_an_old_release_gets_the_graph_it_can_read(own: Path, quickly: Export, tmp_path: Path) -> None:
    words = [own, "--repository", tmp_path / "r", "--triton-graph", "--triton-release", "24.04"]
    assert quickly(*words) == 0
    graph = onnx.load(tmp_path / "r" / "toy_graph" / "1" / "model.onnx")
    assert (graph.ir_version, graph_version.opset(graph)) == (9, 20)
    assert onnx.load(tmp_path / "r" / "toy" / "1" / "model.onnx").ir_version == 9


def refusing(model: Any, release: Any) -> Any:
    raise ExportError("the graph is too new; give a newer --triton-release")


def changing(model: onnx.ModelProto, release: Any) -> tuple[onnx.ModelProto, list[str]]:
    """A converter gone wrong: what multiplied adds."""
    for node in model.graph.node:
        if node.op_type == "Gelu":
            node.op_type = "Neg"
            del node.attribute[:]
    return model, ["opset 99 converted to 21"]


def damaging(model: onnx.ModelProto, release: Any) -> tuple[onnx.ModelProto, list[str]]:
    """A converter that makes what ONNX Runtime does not know."""
    model.graph.node[0].op_type = "NoSuchOperator"
    return model, ["opset 99 converted to 21"]


@pytest.mark.parametrize(
    ("fit", "told"),
    [
        (refusing, "the graph is too new"),
        (changing, "opset 99 converted to 21: .* golden rows are not reproduced; first: logits differs by"),
        (damaging, "opset 99 converted to 21: ONNX Runtime cannot load"),
    ],
)
def test_what_cannot_be_fitted_is_not_written_and_neither_is_the_bundle(
    own: Path,
    quickly: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fit: Callable[..., Any],
    told: str,
) -> None:
    monkeypatch.setattr(graph_version, "fit", fit)
    assert quickly(own, "--precision", "fp32", "--repository", tmp_path / "r", "--triton-graph") == NOT_MADE == 3
    assert not (tmp_path / "r").exists()
    error = capsys.readouterr().err
    assert re.search(told, error)
    assert "nothing was written" in error
    found = json.loads((own / "export" / "export_report.json").read_text("utf-8"))
    assert re.search(told, found["failure"])
    assert found["kept"] == "fp32"


def test_a_model_that_the_validator_faults_is_not_put_in_place(
    own: Path, quickly: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [own, "--precision", "fp32", "--repository", tmp_path / "r", "--triton-graph"]
    assert quickly(*words) == 0
    before = digest_folder(tmp_path / "r")
    made = triton_graph.config

    def wrong(*args: Any) -> pb.ModelConfig:
        config = made(*args)
        config.output[0].dims[:] = [77]
        return config

    monkeypatch.setattr(triton_graph, "config", wrong)
    assert quickly(*words) == NOT_MADE
    assert "toy_graph: version 2: output logits dims: do not fit" in capsys.readouterr().err
    assert digest_folder(tmp_path / "r") == before
    assert sorted(path.name for path in (tmp_path / "r" / "toy_graph").iterdir()) == ["1", "config.pbtxt", "warmup"]


# -- what is refused at the door --------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], own: Path, *words: object) -> str:
    assert main([str(own), *map(str, words)]) == FAULTY == 2
    assert not (own / "export").exists()
    return capsys.readouterr().err


def test_what_is_no_graph_model_is_left_alone(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], floats: Path
) -> None:
    words = ["--repository", tmp_path, "--triton-graph"]
    place = tmp_path / "toy_graph"
    shutil.copytree(floats.parent / "toy", place)
    assert "toy_graph is no graph model, got ['1', 'config.pbtxt']; move it away" in refused(capsys, own, *words)
    (place / "config.pbtxt").unlink()
    assert "is no graph model, got ['1']" in refused(capsys, own, *words)
    shutil.rmtree(place)
    place.mkdir()
    (place / "config.pbtxt").write_text("no configuration {")
    assert "is no graph model" in refused(capsys, own, *words)
    shutil.rmtree(place)
    place.write_text("a file")
    assert "is no graph model, got 'a file'" in refused(capsys, own, *words)
    assert place.read_text() == "a file"


def test_a_bundle_is_not_written_into_a_graph_model(
    own: Path, capsys: pytest.CaptureFixture[str], floats: Path
) -> None:
    told = refused(capsys, own, "--repository", floats.parent, "--name", "toy_graph")
    assert "--name" in told
    assert "another Triton backend, got 'onnxruntime'; give another name" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--triton-graph", "--triton-release", "20.01"], "--triton-release: unknown release, got '20.01'"),
        (["--triton-graph", "--triton-accelerator", "tensorrt"], "add --precision fp32"),
        (["--triton-graph", "--triton-accelerator", "cuda"], "add --precision fp32"),
        (["--triton-graph", "--triton-engine-cache", "/e"], "add --triton-accelerator tensorrt"),
        (["--triton-accelerator", "tensorrt", "--precision", "fp32"], "add --triton-graph"),
        (["--triton-instances", "2"], "add --triton-graph"),
        (["--triton-release", "20.01"], "--triton-release: unknown release, got '20.01'"),
    ],
)
def test_options_that_cannot_be_meant_are_told_before_any_work(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert told in refused(capsys, own, "--repository", tmp_path / "r", *words)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("words", [["--triton-instances", "0"], ["--triton-accelerator", "npu"]])
def test_values_that_make_no_sense_are_refused(own: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(own), *words])
    assert caught.value.code == 2


def test_the_help_tells_the_releases_and_the_default() -> None:
    text = " ".join(parser().format_help().split())
    assert "24.04 to 26.08 (default: the bundle as it was exported, NAME_graph for 24.10)" in text
    assert "--triton-accelerator {cpu,cuda,tensorrt}" in text
