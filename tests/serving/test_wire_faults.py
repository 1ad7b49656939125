"""What is wrong is refused over every wire with the right class of error and a text that names the thing."""

from __future__ import annotations

import json
import struct
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import InferenceServerException

from serving.errors import DownstreamError, InvalidInput, NotFound, NotReady
from tests.serving.server_process import ServerProcess
from tests.serving.wires import WIRES, Wire, post

INFER = "/v2/models/intent/infer"
PREDICT = "/v1/models/intent:predict"
LENGTH = "Inference-Header-Content-Length"
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], type[DownstreamError], list[str]]] = {
    "unknown input": ({"txt": ["a"]}, {}, InvalidInput, ["'txt'", "text, text_pair"]),
    "missing input": ({"text_pair": ["a"]}, {}, InvalidInput, ["Missing: text"]),
    "wrong datatype": ({"text": np.array([[1]], np.int64)}, {}, InvalidInput, ["'text'", "'INT64'", "'BYTES'"]),
    "wrong shape": ({"text": np.array([["a", "b"]], object)}, {}, InvalidInput, ["'text'", "[-1, 1]", "[1, 2]"]),
    "different counts": ({"text": ["a", "b"], "text_pair": ["c"]}, {}, InvalidInput, ["batch sizes: [1, 2]"]),
    "batch over the maximum": ({"text": list("abcde")}, {}, InvalidInput, ["batch-size must be <= 4", "got 5"]),
    "unknown output": ({"text": ["a"]}, {"outputs": ["lable"]}, InvalidInput, ["'lable'", "label, score"]),
    "empty text": ({"text": [""]}, {}, InvalidInput, ["text: is empty"]),
    "empty text in a batch": ({"text": ["a", "b", " "]}, {}, InvalidInput, ["row 2: text: is empty"]),
    "unknown model": ({"text": ["a"]}, {"model": "absent"}, NotFound, ["'absent'"]),
    "unknown version": ({"text": ["a"]}, {"model_version": "7"}, NotFound, ["'intent' version 7"]),
    "quarantined model": ({"text": ["a"]}, {"model": "broken"}, NotReady, ["'broken'", "golden row 0"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_has_the_right_class_and_names_the_thing(server: ServerProcess, wire: Wire, fault: str) -> None:
    columns, options, error, said = FAULTS[fault]
    with pytest.raises(InferenceServerException) as caught:
        wire.ask(server, columns, **options)
    assert caught.value.status() == wire.status(error)
    for part in said:
        assert part in caught.value.message()


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.binary], ids=lambda wire: wire.name)
@pytest.mark.parametrize("raw", [b"\xff", b"caf\xe9", b"\xed\xa0\x80"], ids=["no UTF-8", "latin-1", "lone surrogate"])
def test_bytes_that_are_no_text_are_refused(server: ServerProcess, wire: Wire, raw: bytes) -> None:
    with pytest.raises(InferenceServerException, match="text: not UTF-8 at byte") as caught:
        wire.ask(server, {"text": [raw]})
    assert caught.value.status() == wire.status(InvalidInput)


def refused(server: ServerProcess, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and text of a refusal over HTTP, whose body has one form."""
    status, answer = post(server, path, body, headers)
    assert list(answer) == ["error"]
    assert isinstance(answer["error"], str)
    return status, answer["error"]


def tensors(**changes: Any) -> bytes:
    item = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["a"], **changes}
    return json.dumps({"inputs": [{key: value for key, value in item.items() if value is not None}]}).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"inputs": [{"name": "text", "data": ["\\ud800"]}]}', "JSON"),
        (b"[]", "JSON object"),
        (b"{}", "inputs: must be a list"),
        (b'{"inputs": [1]}', "inputs: must be a list"),
        (b'{"inputs": [{}]}', "name: must be a text"),
        (tensors(datatype=None), "'text': needs a datatype"),
        (tensors(shape="1"), "'text': needs a datatype (text) and a shape"),
        (tensors(datatype="STRING"), "'text': unknown datatype 'STRING'"),
        (tensors(shape=[1, -1]), "'text': shape must be"),
        (tensors(shape=[1] * 100), "'text': shape"),
        (tensors(data=[]), "'text': shape [1, 1] wants 1 elements, got 0"),
        (tensors(data=["a", "b"]), "'text': shape [1, 1] wants 1 elements, got 2"),
        (tensors(data=None), "'text': data is not BYTES"),
        (tensors(data=[7]), "'text': data is not BYTES"),
        (tensors(parameters=[]), "parameters: must be an object"),
        (tensors(data=None, parameters={"binary_data_size": 5}), "'text': binary_data_size must be 0 to the 0 bytes"),
        (tensors(data=None, parameters={"binary_data_size": -1}), "left, got -1"),
        (b'{"id": 5, "inputs": []}', "id: must be a text"),
        (b'{"inputs": [], "parameters": {"timeout": "soon"}}', "'timeout'"),
    ],
)
def test_json_body_that_is_no_request_is_refused(server: ServerProcess, body: bytes, said: str) -> None:
    status, text = refused(server, INFER, body)
    assert status == 400
    assert said in text


def with_binary(size: int, data: bytes) -> tuple[bytes, dict[str, str]]:
    head = tensors(data=None, parameters={"binary_data_size": size})
    return head + data, {LENGTH: str(len(head))}


@pytest.mark.parametrize(
    ("size", "data", "said"),
    [
        (5, b"\x01\x00\x00\x00ab", "additional input data for model 'intent': 1 bytes"),
        (6, b"\x01\x00\x00\x00a", "'text': binary_data_size must be 0 to the 5 bytes that are left, got 6"),
        (5, b"\x09\x00\x00\x00a", "'text': BYTES element of 9 bytes runs past the end"),
        (10, b"\x01\x00\x00\x00a" * 2, "'text': shape [1, 1] wants 1 elements, got 2"),
        (3, b"\x01\x00\x00", "'text': BYTES data ends inside a length"),
        (0, b"", "'text': shape [1, 1] wants 1 elements, got 0"),
    ],
    ids=["too much", "too little", "cut element", "two elements", "cut length", "nothing"],
)
def test_binary_data_that_does_not_fit_is_refused(server: ServerProcess, size: int, data: bytes, said: str) -> None:
    body, headers = with_binary(size, data)
    status, text = refused(server, INFER, body, headers)
    assert status == 400
    assert said in text


@pytest.mark.parametrize("value", ["-1", "x", "1000000", "9" * 5000])
def test_json_length_that_is_none_is_refused(server: ServerProcess, value: str) -> None:
    status, text = refused(server, INFER, tensors(), {LENGTH: value})
    assert status == 400
    assert LENGTH in text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([struct.pack("<I", 9) + b"a"], "runs past the end"),
        ([struct.pack("<I", 1) + b"ab"], "inside a length"),
        ([], "wants 1 elements, got 0"),
        ([b""], "wants 1 elements, got 0"),
        ([b"", b""], "2 elements for 1 inputs"),
    ],
    ids=["too little", "too much", "none", "empty", "one too many"],
)
def test_raw_contents_that_do_not_fit_are_refused(server: ServerProcess, raw: list[bytes], said: str) -> None:
    request = pb.ModelInferRequest(model_name="intent", raw_input_contents=raw)
    request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert said in caught.value.details()


def test_body_over_the_limit_is_refused_before_it_is_read(server: ServerProcess) -> None:
    status, text = refused(server, PREDICT, b" " * (4 * 2**20 + 1))
    assert status == 413
    assert str(4 * 2**20) in text


@pytest.mark.parametrize(
    "path", ["/", "/v2/models/intent/config", "/v2/models/intent/versions/x/infer", "/v1/models/:predict"]
)
def test_unknown_route_has_the_same_form_of_refusal(server: ServerProcess, path: str) -> None:
    assert refused(server, path, b"{}")[0] in (404, 405)
