"""``downstream triton-validate``: a sound model passes; every way to spoil one is told, with the words to mend it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2 as pb

from export.triton_releases import Release, find
from export.triton_validation import FAULTY, WRONG, main, parser, validate
from tests.serving.bundles import ARRAYS, onnx_graph

CONFIG = """
name: "tiny_graph"
backend: "onnxruntime"
max_batch_size: 4
input { name: "input_ids" data_type: TYPE_INT64 dims: -1 }
input { name: "attention_mask" data_type: TYPE_INT64 dims: -1 }
output { name: "logits" data_type: TYPE_FP32 dims: 3 }
dynamic_batching { }
version_policy { latest { num_versions: 1 } }
instance_group { kind: KIND_CPU count: 1 }
model_warmup {
  name: "short" batch_size: 1
  inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: 3 input_data_file: "short-ids" } }
  inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: 3 input_data_file: "short-mask" } }
}
model_warmup {
  name: "long" batch_size: 1
  inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: 9 zero_data: true } }
  inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: 9 random_data: true } }
}
"""
RELEASE: Release = find("24.10")
Change = Callable[[Path], None]


def write_model(folder: Path, config: str = CONFIG) -> Path:
    """A sound model directory: one version, two warm-up requests, one of them from files."""
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(onnx_graph(3).SerializeToString())
    (folder / "warmup").mkdir()
    np.array([5, 6, 7], "<i8").tofile(folder / "warmup" / "short-ids")
    np.array([1, 1, 1], "<i8").tofile(folder / "warmup" / "short-mask")
    (folder / "config.pbtxt").write_text(config)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny_graph")


def text(old: str, new: str) -> Change:
    """A change of config.pbtxt by hand."""

    def change(folder: Path) -> None:
        content = (folder / "config.pbtxt").read_text()
        assert old in content
        (folder / "config.pbtxt").write_text(content.replace(old, new))

    return change


def graph(spoil: Callable[[onnx.ModelProto], object]) -> Change:
    """A change of the graph."""

    def change(folder: Path) -> None:
        made = onnx.load(folder / "1" / "model.onnx")
        spoil(made)
        onnx.save(made, folder / "1" / "model.onnx")

    return change


def fixed_batch(made: onnx.ModelProto) -> None:
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def set_opset(made: onnx.ModelProto) -> None:
    made.opset_import[0].version = 22


def set_ir(made: onnx.ModelProto) -> None:
    made.ir_version = 11


def no_numbers(made: onnx.ModelProto) -> None:
    made.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full((1, 3), np.nan, np.float32), "weights"))


def one_row_only(made: onnx.ModelProto) -> None:
    """The shapes say that any batch goes, the graph takes one row."""
    size = onnx.numpy_helper.from_array(np.array([1, 3], np.int64), "size")
    made.graph.initializer.append(size)
    made.graph.node[-1].output[0] = "many"
    made.graph.node.append(helper.make_node("Reshape", ["many", "size"], ["logits"]))


def any_labels(made: onnx.ModelProto) -> None:
    """The shape does not say how many labels there are; a run gives three."""
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "labels"


def one_answer_for_all(made: onnx.ModelProto) -> None:
    """The shape says an answer a row, a run gives one of them all."""
    axes = onnx.numpy_helper.from_array(np.array([0], np.int64), "rows")
    made.graph.initializer.append(axes)
    made.graph.node[-1].output[0] = "many"
    made.graph.node.append(helper.make_node("ReduceSum", ["many", "rows"], ["logits"], keepdims=1))


def both(first: Change, second: Change) -> Change:
    def change(folder: Path) -> None:
        first(folder)
        second(folder)

    return change


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def test_a_sound_model_passes(model: Path) -> None:
    found = validate(model, RELEASE)
    assert found.faults == []
    assert found.facts[0].startswith("version 1:  opset 17 of 21, IR version 8 of 10, ")
    # The two of the configuration, and the last of them with two rows.
    assert found.facts[1:] == ["version 1:  ONNX Runtime answered 3 requests of the warm-up data"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        # name and backend
        (text('name: "tiny_graph"', 'name: "other"'), r"name: .*got 'other'; set name: 'tiny_graph'"),
        (text('"onnxruntime"', '"onnx"'), r"backend: .*got 'onnx'; set backend: 'onnxruntime'"),
        (text("max_batch_size: 4", "max_batch_size: four"), r"config\.pbtxt: not a Triton model configuration: 4:"),
        (text("max_batch_size: 4", "max_batch_size: -1"), r"max_batch_size: is negative, got -1; give 0 or more"),
        # versions
        (
            text("latest { num_versions: 1 }", "specific { versions: 1 versions: 7 }"),
            r"version_policy: wants what is not there, got \[7\]; the version directories are \[1\]",
        ),
        (lambda folder: (folder / "1").rename(folder / "01"), r"version_policy: .*got 'no version'"),
        (remove("1/model.onnx"), r"version 1: the graph is missing, got 'model\.onnx'; .*default_model_filename"),
        *(
            (
                lambda folder, content=content: (folder / "1" / "model.onnx").write_bytes(content),
                r"version 1: is no ONNX graph \(.+\), got 'model\.onnx'; export the model again",
            )
            for content in (b"no graph", b"", b"this parses, damaged")
        ),
        # opset and IR version
        (graph(set_opset), r"version 1: opset: is above 21, the highest of Triton 24\.10, got 22; .*--triton-release"),
        (graph(set_ir), r"version 1: IR version: is above 10, the highest of Triton 24\.10, got 11;"),
        # inputs
        (
            text('input { name: "attention_mask" data_type: TYPE_INT64 dims: -1 }', ""),
            r"version 1: input: an input of the graph is left out, got \['input_ids'\]; add .*'attention_mask'",
        ),
        (
            text('input { name: "input_ids"', 'input { name: "ids"'),
            r"version 1: input name: the graph has no such input, got 'ids'; it has input_ids, attention_mask",
        ),
        (
            text('"attention_mask" data_type: TYPE_INT64 dims: -1', '"attention_mask" data_type: TYPE_INT32 dims: -1'),
            r"input attention_mask data_type: the graph has INT64, got 'TYPE_INT32'; set data_type: TYPE_INT64",
        ),
        (
            text('mask" data_type: TYPE_INT64 dims: -1', 'mask" data_type: TYPE_INT64 dims: [ -1, 2 ]'),
            r"input attention_mask dims: do not fit the graph's shape \[-1\] without its batch axis, got \[-1, 2\]",
        ),
        (
            text('"attention_mask" data_type', '"attention_mask" optional: true data_type'),
            r"input attention_mask optional: the graph needs it, got True; remove optional",
        ),
        # outputs
        (text('output { name: "logits" data_type: TYPE_FP32 dims: 3 }', ""), r"output: no output, .*has logits"),
        (text('"logits"', '"scores"'), r"output name: the graph has no such output, got 'scores'; it has logits"),
        (text("TYPE_FP32", "TYPE_FP16"), r"output logits data_type: the graph has FP32, got 'TYPE_FP16'"),
        (text("FP32 dims: 3", "FP32 dims: 2"), r"output logits dims: do not fit .*, got \[2\]; set dims: \[3\]"),
        (text("FP32 dims: 3", "FP32 dims: -1"), r"output logits dims: do not fit .*, got \[-1\]; set dims: \[3\]"),
        # the batch axis
        (
            graph(fixed_batch),
            r"input input_ids batch axis: is fixed in the graph, but max_batch_size is 4, got \[1, -1\]; set max",
        ),
        (graph(one_row_only), r"version 1: ONNX Runtime cannot run it: .*eshape"),
        (graph(one_answer_for_all), r"output logits dims: a run gives shape \[1, 3\], got \[2, 3\]; correct dims"),
        (
            both(graph(any_labels), text("FP32 dims: 3", "FP32 dims: 4")),
            r"output logits dims: a run gives shape \[1, 3\], got \[1, 4\]; correct dims",
        ),
        (graph(no_numbers), r"output logits: a run of the warm-up data gives no number"),
        # warm-up
        (remove("warmup/short-ids"), r"'short' input_ids input_data_file: is missing, got 'warmup/short-ids'; .*INT64"),
        (
            lambda folder: np.array([5, 6], "<i8").tofile(folder / "warmup" / "short-ids"),
            r"'short' input_ids input_data_file: has 16 bytes instead of 24, got 'warmup/short-ids'",
        ),
        (text("9 zero_data", "-1 zero_data"), r"'long' input_ids dims: .*got \[-1\]; give the size of every axis"),
        (text("9 zero_data", "[ 9, 9 ] zero_data"), r"'long' input_ids dims: do not fit the input's \[-1\], got \[9"),
        (text("zero_data: true", ""), r"'long' input_ids: has no data, got None; set input_data_file, zero_data"),
        (
            text("TYPE_INT64 dims: 9 zero", "TYPE_FP32 dims: 9 zero"),
            r"'long' input_ids data_type: .*got 'TYPE_FP32'; set data_type: TYPE_INT64",
        ),
        (text('"long" batch_size: 1', '"long" batch_size: 5'), r"'long' batch_size: out of range, got 5; give 1 to 4"),
        (text('"long" batch_size: 1', '"long"'), r"'long' batch_size: out of range, got 0; give 1 to 4"),
        (
            text('inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: 9 random_data: true } }', ""),
            r"'long' inputs: an input is missing, got \['input_ids'\]; add attention_mask",
        ),
        (
            text('"attention_mask" value { data_type: TYPE_INT64 dims: 9', '"mask" value { dims: 9'),
            r"'long' mask: no such input, got 'mask'; the inputs are input_ids, attention_mask",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_remedy(model: Path, change: Change, told: str) -> None:
    change(model)
    faults = validate(model, RELEASE).faults
    assert [line for line in faults if re.search(told, line, re.DOTALL)], faults
    # What follows from it is not told too: three are the three tensors of the graph.
    assert len(faults) <= 3


@pytest.mark.parametrize(("most", "requests"), [(1, 2), (2, 3)])
def test_two_rows_are_run_where_two_may_come(model: Path, most: int, requests: int) -> None:
    text("max_batch_size: 4", f"max_batch_size: {most}")(model)
    found = validate(model, RELEASE)
    assert found.faults == []
    assert f"answered {requests} requests" in found.facts[1]


def test_what_the_graph_leaves_open_the_configuration_may_too(model: Path) -> None:
    graph(any_labels)(model)
    assert validate(model, RELEASE).faults == []
    text("FP32 dims: 3", "FP32 dims: -1")(model)
    assert validate(model, RELEASE).faults == []


def test_one_fault_is_one_line(model: Path) -> None:
    text('"onnxruntime"', '"onnx"')(model)
    assert len(validate(model, RELEASE).faults) == 1


def test_all_faults_are_told_together(model: Path) -> None:
    for change in (
        text('name: "tiny_graph"', 'name: "other"'),
        text("TYPE_FP32 dims: 3", "TYPE_FP32 dims: 2"),
        graph(set_ir),
        remove("warmup/short-mask"),
    ):
        change(model)
    faults = "\n".join(validate(model, RELEASE).faults)
    for told in ("name: is not", "logits dims", "IR version: is above", "short-mask"):
        assert told in faults


def test_only_the_versions_that_the_policy_wants_are_looked_at(model: Path) -> None:
    shutil.copytree(model / "1", model / "2")
    (model / "1" / "model.onnx").write_bytes(b"an old one, damaged")
    assert validate(model, RELEASE).faults == []
    text("latest { num_versions: 1 }", "all { }")(model)
    assert ["version 1: is no ONNX graph" in line for line in validate(model, RELEASE).faults] == [True]


def test_a_newer_release_takes_a_newer_graph(model: Path) -> None:
    graph(set_opset)(model)
    assert validate(model, find("25.06")).faults == []


def test_another_file_name_and_an_output_less_are_as_triton_has_them(model: Path) -> None:
    (model / "1" / "model.onnx").rename(model / "1" / "graph.onnx")
    text("max_batch_size: 4", 'max_batch_size: 4 default_model_filename: "graph.onnx"')(model)
    made = onnx.load(model / "1" / "graph.onnx")
    made.graph.output.append(helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch", 1]))
    onnx.save(made, model / "1" / "graph.onnx")
    assert validate(model, RELEASE).faults == []


def test_without_warm_up_zeros_are_run(model: Path) -> None:
    content = (model / "config.pbtxt").read_text()
    (model / "config.pbtxt").write_text(content[: content.index("model_warmup")])
    shutil.rmtree(model / "warmup")
    found = validate(model, RELEASE)
    assert found.faults == []
    assert found.facts[1] == "version 1:  ONNX Runtime answered 2 requests of zeros"


def test_a_model_without_a_batch_axis_is_taken_as_it_is(model: Path) -> None:
    config = text_format.Parse(CONFIG, pb.ModelConfig())
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    for one in config.input:
        one.dims[:] = [2, -1]
    config.output[0].dims[:] = [2, 3]
    for sample in config.model_warmup:
        for name in ARRAYS:
            sample.inputs[name].ClearField("input_data_file")
            sample.inputs[name].zero_data = True
            sample.inputs[name].dims[:] = [2, 5]
    (model / "config.pbtxt").write_text(str(text_format.MessageToString(config)))
    found = validate(model, RELEASE)
    assert found.faults == []
    assert found.facts[1:] == ["version 1:  ONNX Runtime answered 2 requests of the warm-up data"]


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_was_looked_at(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"sound:      {model} for {RELEASE}"
    assert len(said) == 3


def test_the_command_fails_with_every_fault(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text("TYPE_FP32 dims: 3", "TYPE_FP32 dims: 2")(model)
    remove("warmup/short-mask")(model)
    assert main([str(model)]) == FAULTY == 3
    error = capsys.readouterr().err
    assert f"downstream triton-validate: {model}: 2 faults:" in error
    assert error.count("\n  - ") == 2


def test_the_command_takes_the_directory_it_is_in(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    assert main(["."]) == 0


def test_wrong_input_is_not_a_faulty_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model.parent)]) == WRONG == 2
    assert "holds no config.pbtxt; give the directory of one model" in capsys.readouterr().err
    assert main([str(model / "none")]) == WRONG
    assert main([str(model), "--triton-release", "3.1"]) == WRONG
    assert "unknown release, got '3.1'; the releases are 24.04" in capsys.readouterr().err


def test_the_examples_of_the_help_are_real() -> None:
    lines = [line.split("&&")[0].split() for line in parser().format_help().splitlines()]
    examples = [words for words in lines if words[:2] == ["downstream", "triton-validate"]]
    assert len(examples) >= 3
    for words in examples:
        parser().parse_args(words[2:])
