"""Bodies of v2 inference: JSON, raw data behind it, both, and raw data alone; what is given back, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from serving.codec import Tensor
from serving.errors import InvalidInput, NotFound
from serving.gateway.http_messages import JSON_LENGTH, TIMEOUT, header_timeout, parse_infer, render_infer
from serving.gateway.messages import Answered, InferRequest, InferResponse, Output, Placement
from serving.gateway.shared_memory import Regions
from tests.serving.bundles import LABELS

NONE = Regions(allowed=False, largest=0)
INFER = "/v2/models/intent/infer"
TEXT: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]}


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    """Two regions of 16 bytes, ``in`` and ``out``, over files of twice that size."""
    regions = Regions(allowed=True, largest=1024, root=tmp_path)
    for name in ("in", "out"):
        (tmp_path / name).write_bytes(bytes(range(32)))
        regions.register(name, f"/{name}", 8, 16)
    yield regions
    regions.unregister()


def parse(message: Any, blobs: bytes = b"", regions: Regions = NONE, **headers: bytes) -> InferRequest:
    head = orjson.dumps(message)
    found: Mapping[bytes, bytes] = {JSON_LENGTH: str(len(head)).encode()} if blobs else {}
    return parse_infer("m", "", {**found, **{k.encode(): v for k, v in headers.items()}}, head + blobs, regions)


def binary(name: str, size: int, datatype: str = "INT32", shape: Any = (1, 2)) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}


def refused(message: Any, blobs: bytes = b"") -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(message, blobs)
    return str(caught.value)


def test_json_request_is_read_whole() -> None:
    parameters = {"timeout": 2_000_000, "priority": 3, "custom": "x", "sequence_id": 5, "binary_data_output": True}
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": True, "classification": 2}}]
    request = parse({"id": "ü", "parameters": parameters, "inputs": [TEXT], "outputs": outputs})
    assert (request.id, request.wait, request.priority, request.timeout) == ("ü", 2.0, 3, None)
    assert request.outputs == [Output("a"), Output("b", classes=2, binary=True)]
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tensor.array.tolist()) == ("text", "BYTES", [["a"]])


def test_without_outputs_all_are_given_as_the_request_says() -> None:
    for outputs in ({}, {"outputs": []}, {"outputs": None}):
        assert parse({"inputs": [TEXT], **outputs}).outputs == []
    assert not parse({"inputs": [TEXT]}).binary
    assert parse({"inputs": [TEXT], "parameters": {"binary_data_output": True}}).binary


def test_raw_data_of_several_inputs_comes_in_their_order_beside_json_data() -> None:
    first, third = np.array([[1, -2]], "<i4"), np.array([[2**40]], "<i8")
    request = parse(
        {"inputs": [binary("x", 8), TEXT, binary("y", 8, "INT64", (1, 1)), binary("empty", 0, "FP32", (1, 0))]},
        first.tobytes() + third.tobytes(),
    )
    assert {tensor.name: tensor.array.tolist() for tensor in request.inputs} == {
        "x": [[1, -2]],
        "text": [["a"]],
        "y": [[2**40]],
        "empty": [[]],
    }


def test_length_of_the_json_may_be_told_without_raw_data() -> None:
    body = orjson.dumps({"inputs": [TEXT]})
    request = parse_infer("m", "", {JSON_LENGTH: str(len(body)).encode()}, body, NONE)
    assert request.inputs[0].array.tolist() == [["a"]]


@pytest.mark.parametrize("body", [b"", b"a text\x00\xff", b'{"inputs": []}'])
def test_length_of_zero_means_that_the_body_is_the_data_of_the_only_input(body: bytes) -> None:
    request = parse_infer("m", "3", {JSON_LENGTH: b"0", TIMEOUT: b"1500"}, body, NONE)
    assert (request.raw, request.version, request.timeout, request.binary) == (body, "3", 1.5, True)


@pytest.mark.parametrize("value", [b"-1", b"+1", b"1.5", b"abc", b"", b"9" * 5000, b"1000", "١".encode()])
def test_length_that_is_none_within_the_body_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput, match="Inference-Header-Content-Length"):
        parse_infer("m", "", {JSON_LENGTH: value}, b'{"inputs": []}', NONE)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ([], "must be a JSON object, got list"),
        ({}, "inputs: must be a list of objects, got None"),
        ({"inputs": {}}, "inputs: must be a list of objects"),
        ({"inputs": ["text"]}, "inputs: must be a list of objects"),
        ({"inputs": [TEXT], "outputs": {}}, "outputs: must be a list of objects"),
        ({"inputs": [TEXT], "outputs": 0}, "outputs: must be a list of objects"),
        ({"inputs": [TEXT], "outputs": [{}]}, "name: must be a text"),
        ({"inputs": [TEXT], "outputs": [{"name": 1}]}, "name: must be a text"),
        ({"inputs": [TEXT], "outputs": [{"name": "a", "parameters": []}]}, "parameters: must be an object"),
        ({"inputs": [TEXT], "id": 5}, "id: must be a text, got 5"),
        ({"inputs": [TEXT], "id": None}, "id: must be a text, got None"),
        ({"inputs": [TEXT], "parameters": None}, "parameters: must be an object"),
        ({"inputs": [TEXT], "parameters": {"triton_x": 1}}, "reserved for Triton usage, got 'triton_x'"),
        ({"inputs": [TEXT], "parameters": {"a": [1]}}, "parameter 'a' has invalid type"),
        ({"inputs": [TEXT], "parameters": {"headers": {}}}, "parameter 'headers' has invalid type"),
        ({"inputs": [TEXT], "parameters": {"timeout": "1"}}, "'timeout'"),
        ({"inputs": [TEXT], "parameters": {"priority": -1}}, "'priority'"),
        ({"inputs": [TEXT], "parameters": {"binary_data_output": 1}}, "'binary_data_output' must be true or false"),
        ({"inputs": [{**TEXT, "name": None}]}, "name: must be a text"),
        ({"inputs": [{**TEXT, "shape": None}]}, "'text': needs a datatype (text) and a shape (list), got 'BYTES' and"),
        ({"inputs": [{**TEXT, "datatype": 3}]}, "'text': needs a datatype"),
        ({"inputs": [{**TEXT, "datatype": "STRING"}]}, "'text': unknown datatype 'STRING'"),
        ({"inputs": [{**TEXT, "data": None}]}, "'text': data is not BYTES"),
        ({"inputs": [{**TEXT, "data": "a"}]}, "'text': data is not BYTES"),
        ({"inputs": [{**TEXT, "parameters": 1}]}, "parameters: must be an object"),
        ({"inputs": [{**TEXT, "parameters": {"binary_data_size": 1}}]}, "only one of data, binary_data_size"),
        ({"inputs": [{**binary("x", 0), "parameters": {"binary_data_size": 0, "shared_memory_region": "r",
                                                       "shared_memory_byte_size": 1}}]}, "only one of"),
    ],
)  # fmt: skip
def test_message_that_is_no_request_is_refused_with_what_is_wrong(message: Any, said: str) -> None:
    assert said in refused(message)


@pytest.mark.parametrize("size", [-1, 9, 2**63, "8", 8.0, True, [8]])
def test_size_of_raw_data_that_is_none_is_refused(size: Any) -> None:
    assert "'x': binary_data_size must be 0 to the 8 bytes that are left" in refused(
        {"inputs": [binary("x", size)]}, bytes(8)
    )


@pytest.mark.parametrize(
    ("sizes", "given", "said"),
    [
        ([8], 7, "'x0': binary_data_size must be 0 to the 7 bytes that are left, got 8"),
        ([8, 8], 12, "'x1': binary_data_size must be 0 to the 4 bytes that are left, got 8"),
        ([8], 9, "unexpected additional input data for model 'm': 1 bytes"),
        ([4], 4, "'x0': shape [1, 2] wants 2 elements, got 1"),
        ([7], 7, "'x0': 7 bytes are no whole number of INT32 elements"),
    ],
)
def test_too_little_and_too_much_raw_data_are_told_in_bytes(sizes: list[int], given: int, said: str) -> None:
    message = {"inputs": [binary(f"x{index}", size) for index, size in enumerate(sizes)]}
    assert said in refused(message, bytes(given))


def test_header_timeout_is_in_milliseconds() -> None:
    assert header_timeout({}) is None
    assert header_timeout({TIMEOUT: b"2500"}) == 2.5


def test_input_in_shared_memory_is_read_at_its_place(regions: Regions) -> None:
    place = {"shared_memory_region": "in", "shared_memory_byte_size": 8, "shared_memory_offset": 4}
    request = parse({"inputs": [{**binary("x", 0), "parameters": place}]}, regions=regions)
    assert request.inputs[0].array.tobytes() == bytes(range(12, 20))
    with pytest.raises(NotFound, match="'absent'"):
        parse({"inputs": [{**binary("x", 0), "parameters": {**place, "shared_memory_region": "absent"}}]})


SCORES = Tensor("scores", "FP32", np.array([[0.25, -1.5]], np.float32))
LABEL = Tensor("label", "BYTES", np.array([["Größe"]], object))


def rendered(*outputs: Answered, identifier: str = "", regions: Regions = NONE) -> tuple[Any, bytes, Mapping[str, str]]:
    headers, body = render_infer(InferResponse("m", "2", identifier, outputs), regions)
    length = int(headers.get(JSON_LENGTH.decode(), len(body)))
    return orjson.loads(body[:length]), body[length:], headers


def test_json_answer_has_everything_in_the_order_of_triton() -> None:
    found, blobs, headers = rendered(Answered(LABEL, Output("label")), Answered(SCORES, Output("scores")))
    assert (blobs, headers) == (b"", {"content-type": "application/json"})
    assert list(found) == ["model_name", "model_version", "outputs"]
    assert found["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["Größe"]},
        {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.25, -1.5]},
    ]
    assert list(rendered(identifier="x")[0]) == ["id", "model_name", "model_version", "outputs"]


def test_binary_outputs_lie_behind_the_json_in_their_order_and_the_others_in_it() -> None:
    found, blobs, headers = rendered(
        Answered(SCORES, Output("scores", binary=True)),
        Answered(LABEL, Output("label")),
        Answered(LABEL, Output("label", binary=True)),
    )
    text = "Größe".encode()
    assert blobs == SCORES.array.tobytes() + struct.pack("<I", len(text)) + text
    assert headers["content-type"] == "application/octet-stream"
    kept = [item.get("data", item.get("parameters")) for item in found["outputs"]]
    assert kept == [{"binary_data_size": 8}, ["Größe"], {"binary_data_size": 4 + len(text)}]


def test_output_in_shared_memory_is_left_there_and_is_not_in_the_answer(regions: Regions, tmp_path: Path) -> None:
    place = Output("scores", placement=Placement("out", 12, 4))
    found, blobs, _ = rendered(Answered(SCORES, place), regions=regions)
    assert found["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [1, 2]}]
    assert blobs == b""
    kept = (tmp_path / "out").read_bytes()
    assert kept == bytes(range(12)) + SCORES.array.tobytes() + bytes(range(20, 32))


def test_infinity_and_what_is_no_number_are_null_in_json() -> None:
    tensor = Tensor("x", "FP32", np.array([1, np.nan, np.inf, -np.inf], np.float32))
    body = render_infer(InferResponse("m", "1", "", [Answered(tensor, Output("x"))]), NONE)[1]
    assert b"[1.0,null,null,null]" in body


def infer(client: TestClient, message: Any, blobs: bytes = b"", **headers: str) -> Any:
    head = orjson.dumps(message)
    return client.post(
        INFER, content=head + blobs, headers={**({JSON_LENGTH.decode(): str(len(head))} if blobs else {}), **headers}
    )


def test_same_text_gets_the_same_answer_as_json_as_raw_data_and_as_the_whole_body(client: TestClient) -> None:
    plain = infer(client, {"inputs": [TEXT]}).json()["outputs"]
    packed = infer(client, {"inputs": [binary("text", 5, "BYTES", (1, 1))]}, b"\x01\x00\x00\x00a").json()["outputs"]
    assert packed == plain
    response = client.post(INFER, content=b"a", headers={JSON_LENGTH.decode(): "0"})
    length = int(response.headers[JSON_LENGTH.decode()])
    found = orjson.loads(response.content[:length])["outputs"]
    assert [item["parameters"]["binary_data_size"] for item in found] == [4 + len(plain[0]["data"][0]), 4, 12, 12]
    logits = np.frombuffer(response.content[-12:], np.float32)
    np.testing.assert_array_equal(logits, np.array(plain[3]["data"], np.float32))


def test_classes_of_an_output_beside_the_output_itself(client: TestClient) -> None:
    message = {
        "inputs": [{**TEXT, "shape": [2, 1], "data": ["a", "bb"]}],
        "outputs": [
            {"name": "probabilities", "parameters": {"classification": 2}},
            {"name": "logits", "parameters": {"binary_data": True}},
        ],
    }
    response = infer(client, message)
    length = int(response.headers[JSON_LENGTH.decode()])
    classes, logits = orjson.loads(response.content[:length])["outputs"]
    assert (classes["datatype"], classes["shape"]) == ("BYTES", [2, 2])
    values = np.frombuffer(response.content[length:], np.float32).reshape(logits["shape"])
    for row, best in zip(values, np.array(classes["data"]).reshape(2, 2), strict=True):
        assert [LABELS.index(text.split(":")[2]) for text in best] == np.argsort(-row)[:2].tolist()


@pytest.mark.parametrize("header", [{}, {"content-type": "application/octet-stream"}, {"content-type": "nonsense"}])
def test_content_type_of_a_request_is_not_looked_at(client: TestClient, header: dict[str, str]) -> None:
    assert infer(client, {"inputs": [TEXT]}, **header).status_code == 200


def test_query_string_is_not_looked_at(client: TestClient) -> None:
    assert client.post(f"{INFER}?a=b", content=orjson.dumps({"inputs": [TEXT]})).status_code == 200
