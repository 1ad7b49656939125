"""Streams of requests over gRPC, and the generate routes over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio

from tests.conformance.clients import Client, arrays, header
from tests.conformance.conftest import Server
from tests.conformance.models import expected
from tests.serving.held_backend import PATIENCE

STREAMS = (tritonclient.grpc, tritonclient.grpc.aio)

Request = Mapping[str, Any]


@pytest.fixture(params=STREAMS, ids=lambda library: library.__name__.removeprefix("tritonclient."))
def library(request: pytest.FixtureRequest) -> Any:
    """The libraries that have streams."""
    return request.param


def streamed(client: Client, requests: Sequence[Request], **options: Any) -> list[tuple[Any, Any]]:
    """Result and error of every request of one stream, in the order in which they come back."""
    calls = [{"model_name": "intent", **r, "inputs": client.inputs(r["inputs"])} for r in requests]
    if client.is_aio:

        async def iterated() -> list[tuple[Any, Any]]:
            async def sent() -> AsyncIterator[Any]:
                for call in calls:
                    yield call

            return [answer async for answer in client.raw.stream_infer(sent(), **options)]

        return list(client.run(asyncio.wait_for(iterated(), PATIENCE)))
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.raw.start_stream(lambda result, error: answers.put((result, error)), **options)
    for call in calls:
        client.raw.async_stream_infer(**call)
    found = [answers.get(timeout=PATIENCE) for _ in calls]
    client.raw.stop_stream()
    return found


def test_stream_answers_in_the_order_of_its_requests(server: Server, client: Client) -> None:
    asked = [f"{'long ' * (20 - number)}{number}" for number in range(20)]
    found = streamed(client, [{"inputs": {"text": [text]}, "request_id": text} for text in asked])
    for text, (result, error) in zip(asked, found, strict=True):
        assert error is None
        assert header(result)["id"] == text
        assert arrays(result)["label"].tolist() == [[expected(server.folder, "intent", {"text": text})["label"]]]
        assert result.get_response().parameters["triton_final_response"].bool_param


def test_error_leaves_the_stream_open(client: Client) -> None:
    good, bad = {"inputs": {"text": ["a"]}}, {"inputs": {"text": [""]}}
    unknown = {"inputs": {"text": ["a"]}, "model_name": "absent"}
    found = streamed(client, [good, bad, unknown, good])
    assert [error is None for _, error in found] == [True, False, False, True]
    assert "empty" in found[1][1].message()
    assert "'absent'" in found[2][1].message()


def test_final_response_may_be_asked_for(client: Client) -> None:
    request = {"inputs": {"text": ["a"]}, "enable_empty_final_response": True}
    ((result, error),) = streamed(client, [request])
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param


def test_error_ends_the_stream_as_a_status_where_the_caller_wants_that(client: Client) -> None:
    requests = [{"inputs": {"text": ["a"]}}, {"inputs": {"text": [""]}}]
    if client.is_aio:
        # The library passes the end of the call on as it is.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            client.run(_consumed(client, requests))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    else:
        (_, first), (_, second) = streamed(client, requests, headers={"triton_grpc_error": "true"})
        assert first is None
        assert second.status() == "StatusCode.INVALID_ARGUMENT"


async def _consumed(client: Client, requests: Sequence[Request]) -> None:
    async def sent() -> AsyncIterator[Any]:
        for request in requests:
            yield {"model_name": "intent", "inputs": client.inputs(request["inputs"])}

    async for _, error in client.raw.stream_infer(sent(), headers={"triton_grpc_error": "true"}):
        if error:
            raise error


def posted(server: Server, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body of a POST."""
    connection = http.client.HTTPConnection(server.http, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.headers["content-type"], response.read()
    finally:
        connection.close()


def generated(server: Server, path: str, message: Any) -> tuple[int, Any]:
    status, _, body = posted(server, path, json.dumps(message).encode())
    return status, json.loads(body)


def test_generate_takes_plain_fields_and_gives_plain_fields(server: Server) -> None:
    status, found = generated(server, "/v2/models/intent/generate", {"id": "7", "text": "hello", "colour": "red"})
    row = expected(server.folder, "intent", {"text": "hello"})
    assert status == 200
    assert (found["id"], found["model_name"], found["model_version"]) == ("7", "intent", "1")
    assert found["label"] == row["label"]
    assert found["score"] == pytest.approx(row["score"])
    assert found["logits"] == pytest.approx(list(row["logits"]))


def test_generate_of_several_texts_is_as_many_rows(server: Server) -> None:
    status, found = generated(server, "/v2/models/topic/versions/1/generate", {"text": ["a", "hello"]})
    assert status == 200
    assert found["label"] == [expected(server.folder, "topic", {"text": text})["label"] for text in ("a", "hello")]
    assert len(found["logits"]) == 6


def test_generate_stream_is_one_event(server: Server) -> None:
    status, kind, body = posted(server, "/v2/models/intent/generate_stream", b'{"text": "hello"}')
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    assert body.startswith(b"data: {")
    assert body.endswith(b"}\n\n")
    found = json.loads(body.removeprefix(b"data: "))
    assert found["label"] == expected(server.folder, "intent", {"text": "hello"})["label"]


@pytest.mark.parametrize("message", [{"text": ""}, {"txt": "a"}, {"text": "a", "x": [1]}, {"text": []}], ids=str)
def test_generate_refuses_what_infer_refuses(server: Server, message: Any) -> None:
    status, found = generated(server, "/v2/models/intent/generate", message)
    assert status == 400
    assert list(found) == ["error"]


def test_generate_of_an_unknown_model_is_not_found(server: Server) -> None:
    assert generated(server, "/v2/models/absent/generate", {"text": "a"})[0] == 404
