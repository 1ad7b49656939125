"""The same requests get the same answers from every server, whatever client asks and however it asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from serving.tensors import Array, Row
from tests.conformance.clients import OUTPUTS, Client, arrays, header, texts
from tests.conformance.conftest import Server
from tests.conformance.models import encoded, expected
from tests.serving.held_backend import PATIENCE

TEXTS = ("I want my money back", "Grüße aus 東京 👩‍🚀", 'tab\tand "quotes" \\ and \x00 nul', "a")


def assert_answers(found: Mapping[str, Array], rows: Sequence[Row]) -> None:
    """Every output of every row is what the graph alone gives."""
    assert set(found) == set(OUTPUTS)
    assert found["label"].tolist() == [[row["label"]] for row in rows]
    np.testing.assert_allclose(found["score"], [[row["score"]] for row in rows], rtol=1e-5)
    for name in ("probabilities", "logits"):
        np.testing.assert_allclose(found[name], [row[name] for row in rows], rtol=1e-5)
        assert found[name].dtype == np.float32


def test_texts_are_answered_row_by_row(server: Server, client: Client) -> None:
    assert_answers(client.infer({"text": TEXTS}), [expected(server.folder, "intent", {"text": text}) for text in TEXTS])


def test_second_text_belongs_to_the_row_of_its_index(server: Server, client: Client) -> None:
    pairs = ("x", "Größe")
    rows = [expected(server.folder, "intent", {"text": "a", "text_pair": pair}) for pair in pairs]
    assert_answers(client.infer({"text": ["a", "a"], "text_pair": pairs}), rows)


@pytest.mark.parametrize("text", TEXTS)
def test_arrays_of_a_text_get_the_answer_of_the_text(server: Server, client: Client, text: str) -> None:
    columns = {name: tensor.array for name, tensor in encoded(server.folder, text).items()}
    assert_answers(client.infer(columns), [expected(server.folder, "intent", {"text": text})])


def test_model_without_a_batch_axis_takes_one_row_without_it(server: Server, client: Client) -> None:
    if "before" in server.kind:
        pytest.skip("a remote graph has a batch axis")
    found = client.infer({"text": np.array([b"hello"], object)}, "single")
    row = expected(server.folder, "single", {"text": "hello"})
    assert found["label"].tolist() == [row["label"]]
    np.testing.assert_allclose(found["logits"], row["logits"], rtol=1e-5)


def test_only_requested_outputs_come_back(client: Client) -> None:
    found = client.infer({"text": ["a", "b"]}, outputs=client.outputs(["logits", "label"]))
    assert set(found) == {"logits", "label"}
    assert found["logits"].shape == (2, 3)


@pytest.mark.parametrize("name", ["probabilities", "logits"])
def test_best_classes_are_told_with_value_index_and_name(server: Server, client: Client, name: str) -> None:
    found = client.infer({"text": ["a", "hello"]}, outputs=client.outputs([name], class_count=2))[name]
    for text, row in zip(("a", "hello"), found.tolist(), strict=True):
        answer = expected(server.folder, "intent", {"text": text})
        best = np.argsort(-answer[name])[:2]
        labels = ("cancel", "refund", "thanks")
        for entry, index in zip(row, best, strict=True):
            value, found_index, label = entry.split(":")
            assert (int(found_index), label) == (index, labels[index])
            assert float(value) == pytest.approx(answer[name][index], abs=2e-6)


def test_more_classes_than_there_are_gives_all(client: Client) -> None:
    found = client.infer({"text": ["a"]}, outputs=client.outputs(["probabilities"], class_count=99))
    assert found["probabilities"].shape == (1, 3)


def test_id_model_and_version_are_echoed(client: Client) -> None:
    result = client.run(client.raw.infer("topic", client.inputs({"text": ["a"]}), request_id="order-7 ü"))
    assert header(result) == {"id": "order-7 ü", "model": "topic", "version": "3"}


@pytest.mark.parametrize("version", ["1", "3"])
def test_version_may_be_named(client: Client, version: str) -> None:
    result = client.run(client.raw.infer("topic", client.inputs({"text": ["a"]}), model_version=version))
    assert header(result)["version"] == version


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 60_000_000},
        {"priority": 1},
        {"priority": 9},
        {"sequence_id": 5, "sequence_start": True},
        {"parameters": {"colour": "red", "size": 3, "fine": True}},
    ],
    ids=str,
)
def test_parameters_of_a_request_do_not_change_its_answer(server: Server, client: Client, options: Any) -> None:
    found = client.infer({"text": ["hello"]}, **options)
    assert_answers(found, [expected(server.folder, "intent", {"text": "hello"})])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_and_answers(server: Server, client: Client, algorithm: str) -> None:
    both = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    options = both if client.is_http else {"compression_algorithm": algorithm}
    found = client.infer({"text": TEXTS}, **options)
    assert_answers(found, [expected(server.folder, "intent", {"text": text}) for text in TEXTS])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_json_and_binary_may_be_mixed(server: Server, client: Client, binary_in: bool, binary_out: bool) -> None:
    if not client.is_http:
        pytest.skip("gRPC has one form")
    outputs = [*client.outputs(["label", "score"], binary=binary_out), *client.outputs(["probabilities", "logits"])]
    inputs = client.inputs({"text": ["a", "b"], "text_pair": ["x", "y"]}, binary=binary_in)
    found = arrays(client.run(client.raw.infer("intent", inputs, outputs=outputs)))
    pairs = [{"text": "a", "text_pair": "x"}, {"text": "b", "text_pair": "y"}]
    assert_answers(found, [expected(server.folder, "intent", row) for row in pairs])


def test_bodies_of_the_http_library_are_those_that_it_sends(server: Server, client: Client) -> None:
    if not client.is_http:
        pytest.skip("the methods are those of HTTP")
    body, length = client.raw.generate_request_body(client.inputs({"text": ["a"]}), outputs=client.outputs(["label"]))
    assert b'"text"' in body[:length]
    answer = b'{"model_name":"intent","model_version":"1","outputs":[]}'
    parsed = client.raw.parse_response_body(answer)
    assert header(parsed) == {"id": "", "model": "intent", "version": "1"}


def test_hundred_requests_in_flight_each_get_their_own_answer(server: Server, client: Client) -> None:
    asked = [f"{'x' * (number % 7)} number {number}" for number in range(100)]
    for text, result in zip(asked, _in_flight(client, asked), strict=True):
        assert header(result)["id"] == text
        assert_answers(arrays(result), [expected(server.folder, "intent", {"text": text})])


def _in_flight(client: Client, asked: Sequence[str]) -> Sequence[Any]:
    """The results of one request a text, all sent before the first is waited for."""
    requests = [(client.inputs({"text": [text]}), text) for text in asked]
    if client.is_aio:

        async def gathered() -> Sequence[Any]:
            calls = [client.raw.infer("intent", inputs, request_id=text) for inputs, text in requests]
            return await asyncio.gather(*calls)

        return client.run(gathered())
    if client.is_http:
        handles = [client.raw.async_infer("intent", inputs, request_id=text) for inputs, text in requests]
        return [handle.get_result() for handle in handles]
    found: dict[str, Any] = {}
    done = threading.Semaphore(0)

    def keep(text: str) -> Any:
        def callback(result: Any, error: Any) -> None:
            found[text] = error or result
            done.release()

        return callback

    for inputs, text in requests:
        client.raw.async_infer("intent", inputs, keep(text), request_id=text)
    for _ in requests:
        assert done.acquire(timeout=PATIENCE)
    return [found[text] for text in asked]


def test_credentials_plugin_goes_with_every_request(client: Client) -> None:
    class Credentials:
        def __call__(self, request: Any) -> None:
            request.headers["authorization"] = "Basic eA=="

    client.raw.register_plugin(Credentials())
    assert client.raw.plugin() is not None
    assert client.infer({"text": ["a"]})["label"].shape == (1, 1)
    client.raw.unregister_plugin()
    assert client.raw.plugin() is None


def test_columns_and_arrays_of_many_lengths_meet_in_one_scheduler(server: Server, client: Client) -> None:
    lengths = [1, 3, 40, 2]
    batch = ["y" * length for length in lengths]
    found = client.infer({"text": texts(batch)})
    assert_answers(found, [expected(server.folder, "intent", {"text": text}) for text in batch])
