"""No request notices a reload: it is answered by the version that it began with."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.errors import NotFound
from serving.gateway.messages import InferRequest
from serving.gateway.v2 import Inference
from serving.repository import Repository
from tests.serving.bundles import LABELS
from tests.serving.gateway.test_v2 import column
from tests.serving.held_backend import PATIENCE, HeldBackend
from tests.serving.turns import polled

RELOADS = 10


def test_requests_are_answered_while_their_model_is_reloaded(inference: Inference, loaded: Repository) -> None:
    over = threading.Event()

    def reload() -> None:
        for _ in range(RELOADS):
            loaded.load("intent")
        over.set()

    async def ask() -> int:
        answered = 0
        while not over.is_set():
            calls = [inference.infer(InferRequest("intent", "", [column("text", ["a"])]), "test") for _ in range(20)]
            answered += len(await asyncio.gather(*calls))
        return answered

    reloading = threading.Thread(target=reload)
    reloading.start()
    try:
        assert asyncio.run(ask()) > 0
    finally:
        reloading.join(PATIENCE)


def test_engine_is_closed_when_the_last_request_has_left_it(loaded: Repository, held: HeldBackend) -> None:
    with loaded.lease("intent") as engine:
        unloading = threading.Thread(target=loaded.unload, args=("intent",))
        unloading.start()
        # Unloading has begun once nobody gets the model any more.
        assert polled(lambda: not loaded.versions("intent"), PATIENCE)
        assert not held.closed
        held.released.set()
        assert engine.submit({"text": "a"}).result(PATIENCE)["label"] == LABELS[-1]
        assert unloading.is_alive()
    unloading.join(PATIENCE)
    assert held.closed


def test_engine_that_was_retired_lets_nobody_in(loaded: Repository) -> None:
    engine = loaded.get("intent")
    loaded.load("intent")
    assert not engine.enter()
    with loaded.lease("intent") as fresh:
        assert fresh is not engine


def test_lease_ends_with_an_error_too(loaded: Repository) -> None:
    with pytest.raises(RuntimeError), loaded.lease("intent"):
        raise RuntimeError("the request failed")
    loaded.unload("intent")
    with pytest.raises(NotFound):
        loaded.get("intent")
