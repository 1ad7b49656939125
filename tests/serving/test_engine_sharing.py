"""Equal rows of one model: computed once while they are in flight, and kept where the configuration says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving.bundle import open_bundle
from serving.cache import Worth
from serving.call import Call
from serving.engine import Engine
from serving.settings import Settings
from serving.tensors import Row
from tests.serving.bundles import LABELS, write_bundle
from tests.serving.held_backend import PATIENCE, HeldBackend
from tests.serving.turns import until

ROW: Row = {"text": "please refund me"}
OTHER: Row = {"text": "another one"}


def opened(folder: Path, **more: int) -> tuple[Engine, HeldBackend]:
    bundle, backend = open_bundle(write_bundle(folder)), HeldBackend(len(LABELS))
    engine = Engine(bundle, bundle.open_task(), backend, Settings(runners=1), cache_bytes=more.get("cache_bytes", 0))
    engine._scheduler.start()
    return engine, backend


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Engine, HeldBackend]]:
    """An engine with one runner whose backend is held."""
    engine, backend = opened(tmp_path)
    yield engine, backend
    backend.released.set()
    engine.close()


def test_equal_rows_in_flight_run_once_whether_queued_or_running(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    calls = [Call() for _ in range(6)]
    futures = [engine.submit(ROW, calls[0])]
    backend.wait_until_running()
    futures += [engine.submit(row, call) for row, call in zip((ROW, OTHER, OTHER, ROW, OTHER), calls[1:], strict=True)]
    assert engine.waiting == 1
    backend.released.set()
    assert [future.result(PATIENCE)["label"] for future in futures] == [LABELS[-1]] * 6
    engine.close()
    assert backend.batches == [1, 1]
    assert engine.shared_rows == 4
    for call in calls:
        (timing,) = call.timings
        assert timing.received <= timing.queued <= timing.begun <= timing.inferred <= timing.decoded


def test_rows_given_as_text_and_as_the_arrays_of_that_text_are_equal(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    encoded = dict(engine.task.encode(ROW))
    arrays = {field.name: encoded[field.name] for field in engine.model.graph.inputs}
    futures = [engine.submit(OTHER), engine.submit(ROW), engine.submit(arrays)]
    backend.released.set()
    for future in futures:
        future.result(PATIENCE)
    engine.close()
    assert sum(backend.batches) == 2


def test_rows_of_different_priority_or_with_a_time_to_wait_of_their_own_run_each(
    held: tuple[Engine, HeldBackend],
) -> None:
    engine, _ = held
    engine.submit(OTHER)
    engine.limits = replace(engine.limits, levels=2, level=2)
    for call in (Call(), Call(priority=1), Call(wait=PATIENCE)):
        engine.submit(ROW, call)
    assert engine.shared_rows == 0
    engine.submit(ROW, Call(priority=2))
    assert engine.shared_rows == 1, "the default level, said or not"


def test_caller_that_is_cancelled_does_not_cancel_an_equal_row(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    engine.submit(OTHER)
    backend.wait_until_running()

    async def leave() -> Row:
        first = asyncio.create_task(engine.answer(ROW))
        second = asyncio.create_task(engine.answer(ROW))
        await until(lambda: engine.shared_rows)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        backend.released.set()
        return await second

    assert asyncio.run(leave())["label"] == LABELS[-1]


def test_row_is_not_run_once_all_its_callers_left(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    first = engine.submit(OTHER)
    backend.wait_until_running()
    for future in [engine.submit(ROW) for _ in range(3)]:
        future.cancel()
    backend.released.set()
    first.result(PATIENCE)
    engine.close()
    assert backend.batches == [1]


def test_kept_answer_is_given_without_a_run_until_looking_up_does_not_pay(tmp_path: Path) -> None:
    engine, backend = opened(tmp_path, cache_bytes=10_000)
    backend.released.set()
    calls = [Call(), Call()]

    async def ask() -> None:
        for call in calls:
            await engine.answer(ROW, call)

    asyncio.run(ask())
    assert backend.batches == [1]
    assert [len(call.timings) for call in calls] == [1, 0]
    for _ in range(2 * Worth.WINDOW):
        engine.cache.worth.count(spent=1.0, saved=0.0)
    call = Call()
    asyncio.run(engine.answer_all([ROW], call))  # type: ignore[arg-type]
    assert backend.batches == [1, 1]
    assert call.looked_up == 0
    engine.close()
