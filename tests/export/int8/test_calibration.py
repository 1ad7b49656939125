"""Ranges of activations: what each method covers, and that more rows take no more memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from export.int8.calibration import BINS, Method, ranges
from serving.errors import InvalidInput
from serving.tensors import Array, Tensors
from tests.export.int8.graphs import GRAPH, WIDTH, matrix, one_product, rows


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return one_product(tmp_path / "g.onnx", matrix(np.random.default_rng(0)))


def values(given: list[Tensors]) -> Array:
    return np.concatenate([row["x"].ravel() for row in given])


def test_minmax_covers_all_that_was_seen_and_nothing_more(product: Path) -> None:
    given = rows(12)
    seen = values(given)
    assert ranges(product, GRAPH, given) == {"x": (seen.min(), seen.max())}


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_an_outlier_is_cut_off_and_the_rest_is_kept(product: Path, method: Method) -> None:
    given = [{"x": np.random.default_rng(i).normal(size=(200, WIDTH)).astype(np.float32)} for i in range(40)]
    given[20]["x"][0, 0] = 200
    low, high = ranges(product, GRAPH, given, method)["x"]
    assert 2.5 < high < 150
    assert -6 < low < -2.5


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_ranges_do_not_depend_on_the_order_of_the_rows(product: Path, method: Method) -> None:
    # The narrowest first: histograms that grew with the rows would have other bins.
    given = sorted(rows(12), key=lambda row: float(np.abs(row["x"]).max()))
    given[0] = {"x": given[0]["x"] * np.float32(1e-4)}
    assert ranges(product, GRAPH, given, method) == ranges(product, GRAPH, given[::-1], method)


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_memory_does_not_grow_with_the_rows(product: Path, method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays of one run are 1 MB; those of all the rows that are added would be 24 MB."""
    monkeypatch.setitem(BINS, "entropy", 128)  # the search among more is slow while memory is traced
    row = {"x": np.random.default_rng(0).normal(size=(8192, WIDTH)).astype(np.float32)}
    peaks = []
    for count in (2, 26):
        tracemalloc.start()
        ranges(product, GRAPH, [row] * count, method)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert row["x"].nbytes == 2**20
    assert peaks[1] < peaks[0] + 2**19


def test_a_tensor_that_is_always_zero_has_a_range(product: Path) -> None:
    given = [{"x": np.zeros((4, WIDTH), np.float32)}]
    for method in ("minmax", "percentile"):
        low, high = ranges(product, GRAPH, given, method)["x"]
        assert abs(low) + abs(high) < 1e-5


def test_unknown_methods_and_no_rows_are_refused(product: Path) -> None:
    with pytest.raises(InvalidInput, match="choose one of minmax, entropy, percentile"):
        ranges(product, GRAPH, rows(1), "median")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="none to calibrate on"):
        ranges(product, GRAPH, [])
