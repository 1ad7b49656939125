"""Graphs of a remote server: what is said while it is away, deadlines, and that it is used again when it is back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from serving.backends.triton import Remote, Triton, connected, parse_address
from serving.errors import DeadlineExceeded, InvalidInput, NotReady, Overloaded
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import write_bundle
from tests.serving.held_backend import PATIENCE
from tests.serving.server_process import running
from tests.serving.turns import polled

BATCH = {"input_ids": np.array([[1, 40, 2]], np.int64), "attention_mask": np.ones((1, 3), np.int64)}


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Ready; ModelInfer ends as it is told, and keeps what it was asked."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code
        self.asked: list[tuple[int, float]] = []

    async def ModelReady(self, request: object, context: object) -> object:
        return pb.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.aio.ServicerContext) -> object:
        self.asked.append((request.parameters["timeout"].int64_param, context.time_remaining()))
        await context.abort(self._code, "as told")


@contextmanager
def refusing(code: grpc.StatusCode) -> Iterator[tuple[Triton, Servicer]]:
    """A backend that is connected to a server which refuses with that code."""
    servicer, loop = Servicer(code), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def started() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(started(), loop).result(PATIENCE)
    backend = connected({"model": Remote(f"127.0.0.1:{port}", "intent", "1")})
    try:
        yield backend, servicer
    finally:
        backend.close()
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, NotReady),
        (grpc.StatusCode.NOT_FOUND, NotReady),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInput),
        (grpc.StatusCode.INTERNAL, RuntimeError),
    ],
)
def test_refusal_is_called_what_it_is_and_names_the_server(code: grpc.StatusCode, error: type[Exception]) -> None:
    with (
        refusing(code) as (backend, _),
        pytest.raises(error, match=r"model 'intent' version 1 at 127\.0\.0\.1:\d+, which runs the graph: .*as told"),
    ):
        backend.run("model", BATCH)


def test_deadline_goes_with_the_call_in_both_forms() -> None:
    with refusing(grpc.StatusCode.UNAVAILABLE) as (backend, servicer):
        with pytest.raises(NotReady):
            backend.run("model", BATCH, timeout=7.5)
        ((microseconds, remaining),) = servicer.asked
    assert microseconds == 7_500_000
    # The clock of gRPC counts whole milliseconds and more.
    assert 0 < remaining < 8


def test_deadline_that_has_passed_sends_nothing() -> None:
    with refusing(grpc.StatusCode.UNAVAILABLE) as (backend, servicer):
        with pytest.raises(DeadlineExceeded):
            backend.run("model", BATCH, timeout=0.0)
        assert servicer.asked == []


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("triton:8001", Remote("triton:8001", "tickets_graph", "3")),
        ("[::1]:8001/{name}", Remote("[::1]:8001", "tickets", "3")),
        ("h:1/all_{name}_x", Remote("h:1", "all_tickets_x", "3")),
    ],
)
def test_setting_names_address_and_model(text: str, remote: Remote) -> None:
    assert parse_address(text, "tickets", 3) == remote


@pytest.mark.parametrize("text", ["triton", "triton:", ":8001", "triton:x", "/m"])
def test_setting_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--triton-graphs: .*give HOST:PORT"):
        parse_address(text, "tickets", 3)


def test_model_waits_for_its_server_and_serves_when_it_comes(tmp_path: Path, metrics: Metrics) -> None:
    write_bundle(tmp_path / "here", "intent")
    write_bundle(tmp_path / "there", "intent")
    port = unused_port()
    repository = Repository(tmp_path / "here", Settings(triton_graphs=f"127.0.0.1:{port}/{{name}}"), metrics)
    loading = threading.Thread(target=repository.load_all)
    loading.start()
    try:
        assert polled(lambda: repository.loaded, PATIENCE)
        (entry,) = repository.index()
        assert entry.state == "LOADING"
        assert f"127.0.0.1:{port}, which runs the graph" in entry.reason
        assert not repository.ready
        with pytest.raises(NotReady, match="which runs the graph"):
            repository.get("intent")
        with running(tmp_path / "there", "--grpc-port", str(port)):
            assert polled(lambda: repository.ready, PATIENCE)
            assert repository.get("intent").submit({"text": "a"}).result(PATIENCE)["label"]
        with pytest.raises(NotReady, match="is the server up"):
            repository.get("intent").submit({"text": "a"}).result(PATIENCE)
        with running(tmp_path / "there", "--grpc-port", str(port)):
            assert polled(lambda: _answers(repository), PATIENCE)
    finally:
        repository.stop()
        loading.join(PATIENCE)
        repository.close()


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _answers(repository: Repository) -> bool:
    try:
        return bool(repository.get("intent").submit({"text": "a"}).result(PATIENCE)["label"])
    except NotReady:
        return False


def test_model_that_is_unloaded_while_it_waits_for_its_server_is_not_loaded_later(
    tmp_path: Path, metrics: Metrics
) -> None:
    write_bundle(tmp_path, "intent")
    repository = Repository(tmp_path, Settings(triton_graphs=f"127.0.0.1:{unused_port()}/{{name}}"), metrics)
    loading = threading.Thread(target=repository.load_all)
    loading.start()
    assert polled(lambda: repository.loaded, PATIENCE)
    repository.unload("intent")
    # Nothing is left to wait for, so loading ends by itself.
    loading.join(PATIENCE)
    assert not loading.is_alive()
    assert [(entry.state, entry.reason) for entry in repository.index()] == [("UNAVAILABLE", "unloaded")]


def test_reload_that_finds_the_server_away_leaves_the_version_ready(tmp_path: Path, metrics: Metrics) -> None:
    write_bundle(tmp_path / "here", "intent")
    write_bundle(tmp_path / "there", "intent")
    with running(tmp_path / "there") as server:
        repository = Repository(tmp_path / "here", Settings(triton_graphs=f"{server.grpc}/{{name}}"), metrics)
        repository.load_all()
    with pytest.raises(NotReady, match="which runs the graph"):
        repository.load("intent")
    (entry,) = repository.index()
    assert entry.state == "READY"
    assert "which runs the graph" in entry.reason
    assert repository.versions("intent") == [1]
    repository.close()
