"""What runs the graph: only documented parameters, ranges that hold every request, and no graph where it cannot run."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from tritonclient.grpc import model_config_pb2 as pb

from export.triton_accelerator import NAMES, PROFILES, TENSORRT_PARAMETERS, Accelerator, faults
from serving.errors import InvalidInput
from serving.tensors import Field

FIELDS = (Field("ids", "INT64", ("length",)), Field("mask", "INT64", ("length",)))
MOST = {"length": 128}


def configured(accelerator: Accelerator, batch: int = 16, tuned: int = 20) -> pb.ModelConfig:
    config = pb.ModelConfig(max_batch_size=batch)
    for field in FIELDS:
        config.input.add(name=field.name, data_type=pb.TYPE_INT64, dims=[-1])
    accelerator.configure(config, FIELDS, {"length": tuned}, MOST)
    return config


def parameters(config: pb.ModelConfig) -> dict[str, str]:
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    return dict(accelerator.parameters)


def graph(*ops: str) -> onnx.ModelProto:
    nodes = [helper.make_node(op, ["a"], ["b"]) for op in ops]
    return helper.make_model(helper.make_graph(nodes, "g", [], []))


@pytest.mark.parametrize(("instances", "threads"), [(1, "0"), (4, "1")])
def test_on_a_cpu_several_copies_have_a_thread_each(instances: int, threads: str) -> None:
    config = configured(Accelerator(instances=instances))
    assert [(group.kind, group.count) for group in config.instance_group] == [
        (pb.ModelInstanceGroup.KIND_CPU, instances)
    ]
    assert {name: value.string_value for name, value in config.parameters.items()} == {
        "enable_mem_pattern": "0",
        "intra_op_thread_count": threads,
    }
    assert not config.HasField("optimization")


def test_cuda_is_a_gpu_and_nothing_more() -> None:
    config = configured(Accelerator("cuda", 2))
    assert [(group.kind, group.count) for group in config.instance_group] == [(pb.ModelInstanceGroup.KIND_GPU, 2)]
    assert list(config.parameters) == ["enable_mem_pattern"]
    assert not config.HasField("optimization")


def test_tensorrt_builds_one_engine_for_all_requests() -> None:
    config = configured(Accelerator("tensorrt"))
    assert [group.kind for group in config.instance_group] == [pb.ModelInstanceGroup.KIND_GPU]
    assert parameters(config) == {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": "1073741824",
        "trt_profile_min_shapes": "ids:1x1,mask:1x1",
        "trt_profile_opt_shapes": "ids:8x20,mask:8x20",
        "trt_profile_max_shapes": "ids:16x128,mask:16x128",
    }


def test_engines_are_kept_where_the_user_says() -> None:
    kept = parameters(configured(Accelerator("tensorrt", engine_cache="/engines")))
    assert (kept["trt_engine_cache_enable"], kept["trt_engine_cache_path"]) == ("1", "/engines")


@given(st.sampled_from(NAMES), st.integers(1, 64), st.integers(1, 128), st.sampled_from([None, "/engines"]))
def test_whatever_is_configured_is_what_the_backend_takes(name: str, batch: int, tuned: int, cache: str | None) -> None:
    config = configured(Accelerator(name, engine_cache=cache), batch, tuned)
    assert list(faults(config, [graph("MatMul")])) == []


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
@pytest.mark.parametrize("precision", ["int8", "int8-static", "int8-dynamic"])
def test_int8_is_refused_where_it_cannot_run(name: str, precision: str) -> None:
    with pytest.raises(InvalidInput, match=rf"--triton-accelerator: .*MatMulInteger.*'{name}'; add --precision fp32"):
        Accelerator(name).check(precision)
    Accelerator(name).check("fp32")
    Accelerator().check(precision)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_an_engine_cache_without_engines_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"--triton-engine-cache: .*'/e'; add --triton-accelerator tensorrt"):
        Accelerator(name, engine_cache="/e").check("fp32")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name: "tensorrt"', 'name: "trt"', r"accelerator name: unknown, got 'trt'; give tensorrt or cuda"),
        ("KIND_GPU", "KIND_CPU", r"instance_group kind: leaves .* unused, got \['KIND_CPU'\]; set KIND_GPU"),
        ('"precision_mode"', '"precision"', r"tensorrt precision: unknown parameter, got 'FP16'"),
        ('"FP16"', '"FP8"', r"precision_mode: unknown, got 'FP8'; give one of FP32, FP16, INT8"),
        ("ids:1x1,mask:1x1", "ids:1x1", r"min_shapes: is not a shape of every input, .*write ids:NxN,mask:NxN"),
        ("ids:1x1,mask:1x1", "ids:1,mask:1", r"min_shapes: is not a shape of every input"),
        ("ids:1x1,mask:1x1", "ids:axb", r"min_shapes: is not a shape of every input"),
        ("ids:1x1,mask:1x1", "ids:9x1,mask:1x1", r"profile of ids: out of order, got .*9, 1.*min <= opt"),
        ("trt_profile_opt_shapes", "trt_tactic_sources", r"needs all three profiles.*add trt_profile_opt_shapes"),
    ],
)  # fmt: skip
def test_what_the_backend_would_refuse_or_leave_out_is_told(old: str, new: str, told: str) -> None:
    content = str(text_format.MessageToString(configured(Accelerator("tensorrt"))))
    assert old in content
    found = list(faults(text_format.Parse(content.replace(old, new), pb.ModelConfig()), [graph("MatMul")]))
    assert [line for line in found if re.search(told, line)], found
    assert len(found) == 1


def test_a_graph_of_dynamic_int8_is_told_even_when_the_configuration_was_changed_by_hand() -> None:
    config = configured(Accelerator("tensorrt"))
    (told,) = faults(config, [graph("MatMul"), graph("DynamicQuantizeLinear", "MatMulInteger")])
    assert "cannot run INT8 made for CPUs, got ['DynamicQuantizeLinear', 'MatMulInteger']" in told
    assert "--precision fp32" in told


def test_so_is_a_graph_of_static_int8_and_only_one_with_unsigned_activations() -> None:
    config = configured(Accelerator("tensorrt"))
    for kind, said in ((np.uint8, 1), (np.int8, 0)):
        quantized = graph("QuantizeLinear", "MatMul")
        quantized.graph.initializer.append(numpy_helper.from_array(np.zeros((), kind), "zero"))
        quantized.graph.node[0].input.extend(["scale", "zero"])
        assert len([told for told in faults(config, [quantized]) if "['QuantizeLinear']" in told]) == said


def test_the_profiles_are_documented_parameters() -> None:
    assert set(PROFILES) <= TENSORRT_PARAMETERS
    assert len(TENSORRT_PARAMETERS) == 32
