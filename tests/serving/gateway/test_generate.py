"""generate and generate_stream: fields for inputs, the others for parameters, every output by its name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.codec import to_json
from serving.columns import Schema
from serving.errors import InvalidInput
from serving.gateway.generate import request_of
from serving.repository import Repository
from serving.tensors import Field
from tests.serving.bundles import LABELS, write_bundle

GENERATE, STREAM = "/v2/models/intent/generate", "/v2/models/intent/generate_stream"
SCHEMA = Schema(
    "m",
    (Field("text", "BYTES"), Field("count", "INT32", optional=True), Field("pair", "FP32", (2,), optional=True)),
    (Field("input_ids", "INT64", ("length",)),),
    (Field("label", "BYTES"),),
    {},
    4,
)


def read(message: dict[str, Any], schema: Schema = SCHEMA) -> dict[str, tuple[str, list[int], list[Any]]]:
    """The inputs of a message: datatype, shape and values by name."""
    request = request_of(message, schema, "", None)
    return {t.name: (t.datatype, list(t.array.shape), to_json(t)) for t in request.inputs}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"text": "a"}, {"text": ("BYTES", [1, 1], ["a"])}),
        ({"text": ["a"]}, {"text": ("BYTES", [1, 1], ["a"])}),
        ({"text": ["a", "b"]}, {"text": ("BYTES", [2, 1], ["a", "b"])}),
        ({"text": [["a"], ["b"]]}, {"text": ("BYTES", [2, 1], ["a", "b"])}),
        ({"text": "a", "count": 3}, {"text": ("BYTES", [1, 1], ["a"]), "count": ("INT32", [1, 1], [3])}),
        ({"pair": [1, 2.5]}, {"pair": ("FP32", [1, 2], [1.0, 2.5])}),
        ({"input_ids": [1, 2, 3]}, {"input_ids": ("INT64", [1, 3], [1, 2, 3])}),
        ({"input_ids": [[1, 2, 3]]}, {"input_ids": ("INT64", [1, 3], [1, 2, 3])}),
        ({"input_ids": 7}, {"input_ids": ("INT64", [1, 1], [7])}),
        ({"input_ids": []}, {"input_ids": ("INT64", [1, 0], [])}),
        ({}, {}),
    ],
)
def test_field_of_an_input_is_its_tensor(message: dict[str, Any], expected: Any) -> None:
    assert read(message) == expected


def test_model_without_a_batch_axis_gets_none() -> None:
    single = replace(SCHEMA, max_batch_size=0)
    assert read({"text": "a", "input_ids": [1, 2]}, single) == {
        "text": ("BYTES", [1], ["a"]),
        "input_ids": ("INT64", [2], [1, 2]),
    }


def test_other_fields_are_parameters_beside_those_in_their_object() -> None:
    message = {"text": "a", "id": "7", "timeout": 2_000_000, "custom": True, "parameters": {"priority": 2, "x": 1.5}}
    request = request_of(message, SCHEMA, "3", 1.5)
    assert (request.model, request.version, request.id) == ("m", "3", "7")
    assert (request.wait, request.priority, request.timeout) == (2.0, 2, 1.5)
    assert [tensor.name for tensor in request.inputs] == ["text"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"text": 7}, "'text': data is not BYTES"),
        ({"text": None}, "'text': data is not BYTES"),
        ({"text": {"a": 1}}, "'text': data is not BYTES"),
        ({"count": 1.5}, "'count': data is not INT32"),
        ({"count": "1"}, "'count': data is not INT32"),
        ({"pair": [1, 2, 3]}, r"'pair': shape \[1, 2\] wants 2 elements, got 3"),
        ({"texts": ["a"]}, "'texts' has invalid type.*the inputs are text, count, pair, input_ids"),
        ({"texts": None}, "'texts' has invalid type"),
        ({"parameters": {"x": [1]}}, "'x' has invalid type"),
        ({"parameters": 3}, "parameters: must be an object"),
        ({"id": 3}, "id: must be a text"),
        ({"timeout": "soon"}, "'timeout'"),
        ({"priority": -1}, "'priority'"),
    ],
)
def test_what_is_no_input_and_no_parameter_is_refused(message: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(message)


def test_answer_has_every_output_by_its_name(client: TestClient) -> None:
    response = client.post(GENERATE, json={"id": "7", "text": "hello"})
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert list(found) == ["id", "model_name", "model_version", "label", "score", "probabilities", "logits"]
    assert (found["id"], found["model_name"], found["model_version"]) == ("7", "intent", "1")
    assert found["label"] in LABELS
    assert found["score"] == max(found["probabilities"])
    assert len(found["logits"]) == len(LABELS)
    assert "id" not in client.post(GENERATE, json={"text": "hello"}).json()


def test_digest_is_in_the_answer_if_asked_for(client: TestClient) -> None:
    digest = client.get("/v2/models/intent").json()["parameters"]["model_digest"]
    for asked in ({"model_digest": True}, {"parameters": {"model_digest": True}}):
        assert client.post(GENERATE, json={"text": "a", **asked}).json()["model_digest"] == digest
    assert "model_digest" not in client.post(GENERATE, json={"text": "a"}).json()


def test_several_rows_have_flat_lists(client: TestClient) -> None:
    rows = [client.post(GENERATE, json={"text": text}).json() for text in ("a", "bb")]
    found = client.post(GENERATE, json={"text": ["a", "bb"]}).json()
    for name in ("label", "score"):
        assert found[name] == [row[name] for row in rows]
    assert found["logits"] == [value for row in rows for value in row["logits"]]


def test_version_may_be_named(client: TestClient) -> None:
    path = "/v2/models/intent/versions/{}/generate"
    assert client.post(path.format(1), json={"text": "a"}).json() == client.post(GENERATE, json={"text": "a"}).json()
    response = client.post(path.format(2), json={"text": "a"})
    assert (response.status_code, list(response.json())) == (404, ["error"])


def test_stream_is_one_event_with_the_same_answer(client: TestClient) -> None:
    response = client.post(STREAM, json={"text": "a"}, headers={"accept-encoding": "identity"})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.text.startswith("data: {")
    assert response.text.endswith("}\n\n")
    assert response.text.count("\n") == 2
    assert json.loads(response.text.removeprefix("data: ")) == client.post(GENERATE, json={"text": "a"}).json()


@pytest.mark.parametrize("path", [GENERATE, STREAM])
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"{}", 400, "Missing: text"),
        (b'{"text": ""}', 400, "text: is empty"),
        (b'{"text": ["a", ""]}', 400, "row 1: text: is empty"),
        (b'{"text": []}', 400, "at least 1, got 0"),
        (b'{"text": ["a", "a", "a", "a", "a"]}', 400, "batch-size must be <= 4"),
        (b'{"text": "a", "input_ids": [1]}', 400, "send one of the two"),
    ],
)
def test_refusal_is_plain_json_on_both_routes(
    client: TestClient, path: str, body: bytes, status: int, said: str
) -> None:
    response = client.post(path, content=body)
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert said in response.json()["error"]


def test_model_without_a_batch_axis_is_asked_in_the_same_way(client: TestClient, repository: Repository) -> None:
    write_bundle(repository.folder, "single", max_batch_size=0)
    repository.load("single")
    alone = client.post("/v2/models/single/generate", json={"text": "hello"}).json()
    batched = client.post(GENERATE, json={"text": "hello"}).json()
    assert {**alone, "model_name": "intent"} == batched
