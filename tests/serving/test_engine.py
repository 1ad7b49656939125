"""One loaded model: it answers rows, proves itself first, lets callers leave, and finishes what it began."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.bundle import open_bundle, write_json
from serving.call import Call
from serving.engine import LONG_TEXT, Engine
from serving.errors import BundleError, DeadlineExceeded, InvalidInput, NotReady, Overloaded
from serving.scheduler.runners import Batch
from serving.settings import Settings
from serving.tensors import Row
from tests.serving.bundles import GOLDEN_ROWS, GRAPH_FILES, LABELS, answered, reseal, write_bundle
from tests.serving.clock import Clock
from tests.serving.held_backend import PATIENCE, HeldBackend
from tests.serving.turns import until

ROW: Row = {"text": "please refund me"}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Engine, HeldBackend]]:
    """An engine with one runner whose backend is held; started, and released and closed at the end.

    Equal rows stand for different ones: each is run.
    """
    bundle = open_bundle(write_bundle(tmp_path))
    backend = HeldBackend(len(LABELS))
    engine = Engine(bundle, bundle.open_task(), backend, Settings(runners=1, capacity=3, coalesce=False))
    engine._scheduler.start()
    yield engine, backend
    backend.released.set()
    engine.close()


@pytest.mark.parametrize("backend", sorted(GRAPH_FILES))
def test_loaded_engine_answers_as_its_graph_does(backend: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, backend=backend)
    bundle = open_bundle(folder)
    engine = Engine.load(bundle, Settings(runners=2))
    try:
        rows: list[Row] = [ROW, {"text": "a", "text_pair": "b"}, *GOLDEN_ROWS]
        futures = [engine.submit(row) for row in rows]
        for row, future in zip(rows, futures, strict=True):
            wanted = answered(bundle.open_task(), backend, folder / GRAPH_FILES[backend], row)
            answer = future.result(PATIENCE)
            assert answer["label"] == wanted["label"]
            np.testing.assert_allclose(answer["logits"], wanted["logits"], rtol=1e-5)
    finally:
        engine.close()


def test_row_answers_the_same_in_a_crowd_as_alone(tmp_path: Path) -> None:
    engine = Engine.load(open_bundle(write_bundle(tmp_path, max_batch_size=16)), Settings(runners=2, max_waste=100))
    try:
        rows: list[Row] = [{"text": "x" * length} for length in range(1, 40)]
        alone = [engine.submit(row).result(PATIENCE)["logits"] for row in rows]
        crowd = [future.result(PATIENCE)["logits"] for future in [engine.submit(row) for row in rows]]
        np.testing.assert_allclose(crowd, alone, rtol=1e-6)
    finally:
        engine.close()


def test_measured_cost_is_positive_and_longer_rows_cost_no_less(tmp_path: Path) -> None:
    engine = Engine.load(open_bundle(write_bundle(tmp_path, delay=0.001)), Settings(runners=1))
    engine.close()
    assert engine.cost(1, 64) >= engine.cost(1, 8) >= 0.001 / 2


def test_model_that_does_not_reproduce_its_golden_answers_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"2 of 2 golden rows .*golden row 0 .*money back.*logits differs by 1"):
        Engine.load(open_bundle(write_bundle(tmp_path, wrong_golden=True)), Settings())


def test_model_without_golden_rows_proves_nothing_and_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no golden rows"):
        Engine.load(open_bundle(write_bundle(tmp_path, golden=[])), Settings())


def test_model_that_fails_to_load_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(BundleError):
        Engine.load(open_bundle(write_bundle(tmp_path, wrong_golden=True)), Settings(runners=4))
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("row", "said"), [({}, "text: missing"), ({"text": ""}, "text: is empty"), ({"txt": "a"}, "txt")]
)
def test_wrong_row_is_refused_before_it_is_queued(held: tuple[Engine, HeldBackend], row: Row, said: str) -> None:
    engine, backend = held
    with pytest.raises(InvalidInput, match=said):
        engine.submit(row)
    assert engine.waiting == 0
    assert backend.batches == []


def occupied(engine: Engine, backend: HeldBackend) -> Future[Row]:
    """A row that keeps the only runner busy."""
    future = engine.submit(ROW)
    backend.wait_until_running()
    return future


@pytest.mark.parametrize("text", ["short", "long " * LONG_TEXT], ids=["short", "long"])
def test_caller_that_is_cancelled_takes_its_row_out(held: tuple[Engine, HeldBackend], text: str) -> None:
    engine, backend = held
    first = occupied(engine, backend)

    async def leave() -> None:
        call = asyncio.create_task(engine.answer({"text": text}))
        await until(lambda: engine.waiting)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(leave())
    backend.released.set()
    assert first.result(PATIENCE)["label"] == LABELS[-1]
    engine.close()
    assert backend.batches == [1], "the row of the caller that left was never run"


def test_row_whose_deadline_passed_in_the_queue_is_not_run(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    first = occupied(engine, backend)
    engine._clock = engine._scheduler._clock = clock = Clock()
    late = engine.submit(ROW, Call(timeout=5.0))
    clock.advance(5.0)
    backend.released.set()
    with pytest.raises(DeadlineExceeded):
        late.result(PATIENCE)
    first.result(PATIENCE)
    engine.close()
    assert backend.batches == [1]


def test_full_queue_refuses_the_next_row(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    occupied(engine, backend)
    for _ in range(3):
        engine.submit(ROW)
    with pytest.raises(Overloaded):
        engine.submit(ROW)
    assert engine.waiting == 3
    assert engine.predicted_wait() > 0


def test_failure_of_the_graph_reaches_its_caller_and_the_next_row_is_answered(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    backend.released.set()
    backend.failure = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.submit(ROW).result(PATIENCE)
    backend.failure = None
    assert engine.submit(ROW).result(PATIENCE)["label"] == LABELS[-1]


def test_close_answers_what_is_in_flight_and_then_refuses(held: tuple[Engine, HeldBackend]) -> None:
    engine, backend = held
    futures = [occupied(engine, backend), engine.submit(ROW), engine.submit(ROW)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    assert not backend.closed
    backend.released.set()
    closing.join(PATIENCE)
    assert [future.result(0)["label"] for future in futures] == [LABELS[-1]] * 3
    assert backend.closed
    with pytest.raises(NotReady):
        engine.submit(ROW)


def test_batches_respect_max_batch_size_of_the_bundle(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path, max_batch_size=2))
    seen: list[Batch] = []
    backend = HeldBackend(len(LABELS))
    engine = Engine(bundle, bundle.open_task(), backend, Settings(runners=1, coalesce=False), seen.append)
    futures = [engine.submit(ROW) for _ in range(5)]
    backend.released.set()
    engine._scheduler.start()
    engine.close()
    assert all(future.done() for future in futures)
    assert max(backend.batches) <= 2
    assert sum(len(batch.lengths) for batch in seen) == 5


def test_bundle_without_batching_runs_rows_one_by_one(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path))
    backend = HeldBackend(len(LABELS))
    alone = replace(bundle, manifest=replace(bundle.manifest, max_batch_size=0))
    engine = Engine(alone, bundle.open_task(), backend, Settings(runners=1, coalesce=False))
    futures = [engine.submit(ROW) for _ in range(3)]
    backend.released.set()
    engine._scheduler.start()
    engine.close()
    assert all(future.done() for future in futures)
    assert backend.batches == [1, 1, 1]


def test_labels_that_moved_are_seen_although_the_graph_is_the_same(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    write_json(folder / "assets" / "labels.json", list(reversed(LABELS)))
    reseal(folder)
    with pytest.raises(BundleError, match="label is '.*' instead of '"):
        Engine.load(open_bundle(folder), Settings())


def test_rows_run_alone_where_batch_mates_would_change_their_answers(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path))
    backend = HeldBackend(len(LABELS))
    batches: list[Batch] = []
    dependent = replace(bundle, manifest=replace(bundle.manifest, batch_invariant=False))
    engine = Engine(dependent, bundle.open_task(), backend, Settings(runners=1, coalesce=False), batches.append)
    engine._scheduler.start()
    futures = [engine.submit(ROW) for _ in range(8)]
    backend.released.set()
    for future in futures:
        future.result(PATIENCE)
    engine.close()
    assert [len(batch.lengths) for batch in batches] == [1] * 8
