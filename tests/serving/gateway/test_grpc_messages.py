"""ModelInferRequest to what both wires understand, and ModelInferResponse back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from serving.codec import Tensor, to_json
from serving.errors import InvalidInput, NotFound
from serving.gateway.grpc_messages import CONTENTS, parse_infer, render_infer
from serving.gateway.messages import Answered, InferRequest, InferResponse, Output, Placement
from serving.gateway.shared_memory import Regions
from serving.tensors import NUMPY_TYPES

NONE = Regions(allowed=False, largest=0)


def raw(*items: tuple[str, str, list[int], bytes], surplus: int = 0) -> pb.ModelInferRequest:
    """A request of raw contents."""
    message = pb.ModelInferRequest(model_name="m")
    for name, datatype, shape, content in items:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_input_contents.append(content)
    message.raw_input_contents.extend([b""] * surplus)
    return message


def typed(datatype: str, shape: list[int], **contents: Any) -> pb.ModelInferRequest:
    """A request of one input of typed contents."""
    message = pb.ModelInferRequest(model_name="m")
    item = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(item.contents, name).extend(values)
    return message


def parse(message: pb.ModelInferRequest, remaining: float | None = None) -> InferRequest:
    return parse_infer(message, remaining, NONE)


def test_request_is_read_whole() -> None:
    message = raw(("x", "INT32", [1, 2], np.array([1, -2], "<i4").tobytes()), ("y", "BYTES", [1], b"\1\0\0\0a"))
    message.model_version, message.id = "3", "ü"
    message.parameters["timeout"].int64_param = 2_000_000
    message.parameters["priority"].uint64_param = 3
    message.parameters["binary_data_output"].bool_param = True  # of HTTP; here a parameter like any other
    message.parameters["custom"].double_param = 1.5
    message.outputs.add(name="a").parameters["classification"].int64_param = 2
    message.outputs.add(name="b")
    request = parse(message, 1.5)
    assert (request.model, request.version, request.id) == ("m", "3", "ü")
    assert (request.wait, request.priority, request.timeout) == (2.0, 3, 1.5)
    assert request.outputs == [Output("a", classes=2), Output("b")]
    assert {t.name: to_json(t) for t in request.inputs} == {"x": [1, -2], "y": ["a"]}


@pytest.mark.parametrize("datatype", sorted(NUMPY_TYPES))
def test_raw_contents_of_every_datatype_are_read(datatype: str) -> None:
    size = {"BYTES": 4, "BF16": 2}.get(datatype) or np.dtype(NUMPY_TYPES[datatype]).itemsize
    (tensor,) = parse(raw(("x", datatype, [2, 1], bytes(2 * size)))).inputs
    assert (tensor.datatype, tensor.array.shape) == (datatype, (2, 1))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (raw(("x", "INT32", [1], bytes(4)), surplus=1), "2 elements for 1 inputs"),
        (typed("FP16", [1], fp32_contents=[1]), "FP16 has no typed contents; send raw_input_contents"),
        (typed("BF16", [1]), "BF16 has no typed contents"),
        (typed("STRING", [1]), "STRING has no typed contents"),
        (typed("", [1]), "'x':  has no typed contents"),
        (typed("INT64", [1], int_contents=[1]), "wants 1 elements, got 0"),
        (typed("INT64", [1]), "wants 1 elements, got 0"),
        (typed("INT64", [2], int64_contents=[1]), "wants 2 elements, got 1"),
        (typed("INT8", [1], int_contents=[128]), "data is not INT8"),
        (typed("UINT16", [1], uint_contents=[2**16]), "data is not UINT16"),
        (typed("INT64", [-1], int64_contents=[1]), "shape must be a list of non-negative integers"),
        (typed("BYTES", [2], bytes_contents=[b"a"]), "wants 2 elements, got 1"),
    ],
)
def test_contents_that_do_not_fit_are_refused(message: pb.ModelInferRequest, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(message)


def test_raw_contents_are_for_all_inputs_or_none() -> None:
    message = raw(("x", "INT32", [1], bytes(4)))
    item = message.inputs.add(name="y", datatype="INT32", shape=[1])
    item.contents.int_contents.append(1)
    with pytest.raises(InvalidInput, match="cannot be mixed"):
        parse(message)


@pytest.mark.parametrize("datatype", sorted(CONTENTS))
def test_zero_elements_are_typed_contents_too(datatype: str) -> None:
    (tensor,) = parse(typed(datatype, [1, 0])).inputs
    assert tensor.array.shape == (1, 0)


@pytest.mark.parametrize("name", ["triton_x", "triton_final_response"])
def test_reserved_parameters_are_refused_but_for_the_one_of_the_stream(name: str) -> None:
    message = raw(("x", "INT32", [1], bytes(4)))
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    assert parse(message).inputs
    message.parameters[name].bool_param = True
    with pytest.raises(InvalidInput, match=f"reserved for Triton usage, got '{name}'"):
        parse(message)


def test_parameter_without_a_value_is_refused() -> None:
    message = raw(("x", "INT32", [1], bytes(4)))
    message.parameters["empty"].SetInParent()
    with pytest.raises(InvalidInput, match="parameter 'empty' has invalid type"):
        parse(message)


def test_inputs_in_shared_memory_take_none_of_the_raw_contents(tmp_path: Path) -> None:
    (tmp_path / "shared").write_bytes(bytes(range(16)))
    regions = Regions(allowed=True, largest=16, root=tmp_path)
    regions.register("r", "shared", 4, 8)
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\x07"])
    there = message.inputs.add(name="x", datatype="UINT8", shape=[4])
    there.parameters["shared_memory_region"].string_param = "r"
    there.parameters["shared_memory_byte_size"].int64_param = 4
    message.inputs.add(name="y", datatype="UINT8", shape=[1])
    assert {t.name: to_json(t) for t in parse_infer(message, None, regions).inputs} == {"x": [4, 5, 6, 7], "y": [7]}
    del message.raw_input_contents[:]
    del message.inputs[1]
    assert to_json(parse_infer(message, None, regions).inputs[0]) == [4, 5, 6, 7]
    regions.unregister()
    with pytest.raises(NotFound, match="'r'"):
        parse_infer(message, None, regions)


def test_answer_has_raw_contents_for_every_output_in_order(tmp_path: Path) -> None:
    (tmp_path / "shared").write_bytes(bytes(8))
    regions = Regions(allowed=True, largest=8, root=tmp_path)
    regions.register("r", "shared", 0, 8)
    scores = Tensor("scores", "FP32", np.array([[0.25, -1.5]], np.float32))
    label = Tensor("label", "BYTES", np.array([["Größe"]], object))
    response = InferResponse(
        "m", "2", "7",
        [Answered(label, Output("label")), Answered(scores, Output("scores", placement=Placement("r", 8))),
         Answered(scores, Output("scores"))],
    )  # fmt: skip
    message = render_infer(response, regions)
    assert (message.model_name, message.model_version, message.id) == ("m", "2", "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in message.outputs] == [
        ("label", "BYTES", [1, 1]),
        ("scores", "FP32", [1, 2]),
        ("scores", "FP32", [1, 2]),
    ]
    assert list(message.raw_output_contents) == [
        b"\x07\x00\x00\x00" + "Größe".encode(),
        b"",
        scores.array.tobytes(),
    ]
    assert (tmp_path / "shared").read_bytes() == scores.array.tobytes()
    assert all(not output.HasField("contents") and not output.parameters for output in message.outputs)
    regions.unregister()
