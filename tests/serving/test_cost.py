"""The cost model: what is fitted is what was measured, and a longer run is never predicted to be cheaper."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cost import UNMEASURED, CostModel, fit

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
