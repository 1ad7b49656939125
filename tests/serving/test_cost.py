"""The cost model: what is fitted is what was measured, and a longer run is never predicted to be cheaper."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cost import UNMEASURED, CostModel, Learner, fit

SHAPES = ((1, 8), (1, 32), (1, 96), (4, 8), (4, 32), (8, 16))
seconds = st.floats(1e-6, 10.0)


@pytest.mark.parametrize(
    "true",
    [
        CostModel(2e-3, 1e-5, 3e-8),
        CostModel(0.0, 1e-5, 3e-8),
        CostModel(2e-3, 0.0, 3e-8),
        CostModel(2e-3, 1e-5, 0.0),
        CostModel(2e-3, 0.0, 0.0),
    ],
)
def test_fit_recovers_the_model_behind_exact_measurements(true: CostModel) -> None:
    found = fit([(rows, length, true(rows, length)) for rows, length in SHAPES])
    for rows, length in ((1, 1), (2, 48), (32, 128)):
        assert found(rows, length) == pytest.approx(true(rows, length), rel=1e-6)


@settings(deadline=None)
@given(st.lists(seconds, min_size=len(SHAPES), max_size=len(SHAPES)))
def test_whatever_was_measured_cost_is_positive_and_grows_with_rows_and_length(measured: list[float]) -> None:
    model = fit([(*shape, value) for shape, value in zip(SHAPES, measured, strict=True)])
    assert min(model.base, model.token, model.square) >= 0
    assert model(1, 1) >= 0
    assert model(1, 96) > 0
    for rows, length in SHAPES:
        assert model(rows + 1, length) >= model(rows, length)
        assert model(rows, length + 1) >= model(rows, length)


@settings(deadline=None)
@given(seconds)
def test_runs_of_one_shape_only_still_give_a_model_that_predicts_them(measured: float) -> None:
    """A model whose longest row is short is measured at that length only."""
    model = fit([(1, 8, measured)] * 3)
    assert model(1, 8) == pytest.approx(measured)


def test_before_anything_was_measured_longer_costs_more() -> None:
    assert UNMEASURED(1, 9) > UNMEASURED(1, 8) > 0


models = st.builds(
    CostModel, base=st.floats(0, 1e-2), token=st.floats(1e-7, 1e-3), square=st.sampled_from([0.0]) | st.floats(0, 1e-6)
)
odd = st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e-300, 1e300])
runs = st.tuples(st.integers(1, 64), st.integers(1, 512), st.floats(1e-6, 100) | odd)


@settings(deadline=None, max_examples=50)
@given(models, st.lists(runs, max_size=64))
def test_whatever_runs_took_predictions_stay_positive_finite_and_grow(
    began: CostModel, seen: list[tuple[int, int, float]]
) -> None:
    learner = Learner(began)
    for run in seen:
        learner.learn(*run)
        assert learner.model.is_sound
    for shape in SHAPES:
        rows, length = shape
        assert 0 < learner.model(rows, length) <= learner.model(rows, length + 1) <= learner.model(rows + 1, length + 1)


factors = st.floats(0.25, 4)


@settings(deadline=None, max_examples=20)
@given(models, st.tuples(factors, factors, factors))
def test_learned_model_predicts_the_runs_it_was_told_of(began: CostModel, changed: tuple[float, float, float]) -> None:
    true = CostModel(began.base * changed[0], began.token * changed[1], began.square * changed[2])
    learner = Learner(began)
    for number in range(6 * Learner.MEMORY):
        rows, length = SHAPES[number % len(SHAPES)]
        learner.learn(rows, length, true(rows, length))
    for rows, length in SHAPES:
        assert learner.model(rows, length) == pytest.approx(true(rows, length), rel=0.25)


def test_lengths_that_were_not_seen_keep_their_proportion() -> None:
    """All rows are short, and the machine is twice as slow as when it was measured: so it is for long rows."""
    began = CostModel(5e-4, 1.2e-4, 5e-8)
    learner = Learner(began)
    for _ in range(4 * Learner.MEMORY):
        learner.learn(1, 12, 2 * began(1, 12))
    assert learner.model(1, 256) == pytest.approx(2 * began(1, 256), rel=0.01)


def test_run_that_was_interrupted_moves_little() -> None:
    began = CostModel(5e-4, 1.2e-4, 5e-8)
    learner = Learner(began)
    for number in range(4 * Learner.MEMORY):
        learner.learn(1, 24, began(1, 24) * (1000 if number % 50 == 0 else 1))
    assert learner.model(1, 24) == pytest.approx(began(1, 24), rel=0.06)


def test_runs_are_learned_from_several_threads_at_once() -> None:
    began = CostModel(5e-4, 1.2e-4, 5e-8)
    learner = Learner(began)
    threads = [
        threading.Thread(target=lambda: [learner.learn(1, 24, 2 * began(1, 24)) for _ in range(1000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert learner.model(1, 24) == pytest.approx(2 * began(1, 24), rel=0.01)
