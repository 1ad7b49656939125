"""The bare session runs every strategy, and answers as the server does."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench.ceiling import LOAD, Session, Strategy, best, strategies
from loadtest.bench.figures import Figures, Results
from loadtest.bench.processes import CannotRun
from tests.serving.bundles import LABELS, write_bundle

TEXTS = ["I want my money back", "thanks", "a rather longer text than the others"]


@pytest.mark.parametrize("strategy", strategies(2), ids=lambda strategy: strategy.row)
def test_every_strategy_runs_whole_passes(tmp_path: Path, strategy: Strategy) -> None:
    session = Session(write_bundle(tmp_path, backend="onnxruntime"), cores=2)
    assert session.saturated(strategy, TEXTS, seconds=0).rate > 0


@pytest.mark.parametrize("inside", [1, 2])
def test_one_by_one_has_latencies(tmp_path: Path, inside: int) -> None:
    session = Session(write_bundle(tmp_path, backend="onnxruntime"), cores=2)
    figures = session.one_by_one(inside, TEXTS, seconds=0)
    assert figures.p50 is not None
    assert figures.p50 > 0


def test_it_counts_tokens_and_knows_the_label(tmp_path: Path) -> None:
    session = Session(write_bundle(tmp_path, backend="onnxruntime"), cores=1)
    assert session.tokens("abc") == 5
    assert session.label("abc") in LABELS


def test_another_backend_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="'stub'"):
        Session(write_bundle(tmp_path), cores=1)


def test_the_best_is_the_highest_median_and_rows_alone_are_told_apart() -> None:
    results = Results()
    alone, _, like, *_ = strategies(2)
    for number, (one, four) in enumerate(((100, 90), (100, 130), (100, 140)), 1):
        results.add(alone.row, "mixed", LOAD, number, Figures(one))
        results.add(like.row, "mixed", LOAD, number, Figures(four))
    assert best(results, "mixed") == (like.row, 130)
    assert best(results, "mixed", alone=True) == (alone.row, 100)
    assert best(results, "short") is None
