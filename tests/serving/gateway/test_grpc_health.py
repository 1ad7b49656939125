"""grpc.health.v1: the server and each model, asked once or watched."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthStub
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from serving.gateway import grpc_health
from serving.gateway.management import Management
from serving.repository import Repository
from tests.serving.bundles import write_bundle
from tests.serving.gateway.rpc import over_channel, request
from tests.serving.held_backend import PATIENCE
from tests.serving.server_process import running
from tests.serving.turns import until

SERVER = ("", "inference.GRPCInferenceService")
STATUS = pb.HealthCheckResponse


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers look again at once."""
    monkeypatch.setattr(grpc_health, "PERIOD", 0.001)


def watching() -> bool:
    """Whether a watcher waits in this process."""
    return any("Event.wait" in str(task.get_coro()) for task in asyncio.all_tasks())


async def checked(channel: Any, service: str) -> int:
    return int((await HealthStub(channel).Check(pb.HealthCheckRequest(service=service))).status)


@pytest.mark.parametrize("service", [*SERVER, "intent"])
def test_server_and_model_are_serving_until_they_are_not(management: Management, service: str) -> None:
    async def ask(channel: Any) -> None:
        assert await checked(channel, service) == STATUS.SERVING
        management.inference.stopping = True
        assert await checked(channel, service) == STATUS.NOT_SERVING

    over_channel(management, ask)


def test_model_that_was_unloaded_is_unknown_as_one_that_never_was(management: Management) -> None:
    async def ask(channel: Any) -> None:
        for service in ("absent", "inference.Other", "intent"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await checked(channel, service)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
            assert f"'{service}'" in str(caught.value.details())

    asyncio.run(management.unload("intent"))
    over_channel(management, ask)


def test_quarantined_model_is_not_serving_and_neither_is_the_server(
    management: Management, repository: Repository
) -> None:
    write_bundle(repository.folder, "bad", wrong_golden=True)
    repository.load_all()

    async def ask(channel: Any) -> None:
        found = {service: await checked(channel, service) for service in (*SERVER, "intent", "bad")}
        assert found == {**dict.fromkeys((*SERVER, "bad"), STATUS.NOT_SERVING), "intent": STATUS.SERVING}

    over_channel(management, ask)


def test_watcher_is_told_at_once_and_of_every_change(management: Management) -> None:
    async def watch(channel: Any) -> None:
        call = HealthStub(channel).Watch(pb.HealthCheckRequest(service="intent"))
        assert (await call.read()).status == STATUS.SERVING
        management.inference.stopping = True
        assert (await call.read()).status == STATUS.NOT_SERVING
        management.inference.stopping = False
        assert (await call.read()).status == STATUS.SERVING

    over_channel(management, watch)


def test_watcher_of_a_model_that_is_to_come_waits_for_it(management: Management, repository: Repository) -> None:
    async def watch(channel: Any) -> None:
        call = HealthStub(channel).Watch(pb.HealthCheckRequest(service="new"))
        assert (await call.read()).status == STATUS.SERVICE_UNKNOWN
        write_bundle(repository.folder, "new")
        await asyncio.to_thread(repository.load, "new")
        status = (await call.read()).status
        if status == STATUS.NOT_SERVING:  # seen while it was loading
            status = (await call.read()).status
        assert status == STATUS.SERVING

    over_channel(management, watch)


def test_watcher_is_sent_away_when_the_ports_close(management: Management) -> None:
    async def watch(channel: Any) -> None:
        call = HealthStub(channel).Watch(pb.HealthCheckRequest())
        assert (await call.read()).status == STATUS.SERVING
        management.inference.closing.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

    over_channel(management, watch)


def test_watcher_that_leaves_leaves_nothing_behind(management: Management) -> None:
    async def watch(channel: Any) -> None:
        call = HealthStub(channel).Watch(pb.HealthCheckRequest())
        await call.read()
        await until(watching)
        call.cancel()
        await until(lambda: not watching())

    over_channel(management, watch)


def test_clients_that_only_listen_do_not_hold_a_server_that_is_told_to_stop(tmp_path: Path) -> None:
    stopped = threading.Event()

    def one_and_no_more() -> Iterator[Any]:
        yield request("a")
        stopped.wait(PATIENCE)

    write_bundle(tmp_path)
    with running(tmp_path, "--drain-timeout", "3600") as server, grpc.insecure_channel(server.grpc) as channel:
        watcher = HealthStub(channel).Watch(pb.HealthCheckRequest())
        stream = GRPCInferenceServiceStub(channel).ModelStreamInfer(one_and_no_more())
        assert next(watcher).status == STATUS.SERVING
        assert next(stream).error_message == ""
        server.stop()
        assert server.exit_code() == 0
        stopped.set()
