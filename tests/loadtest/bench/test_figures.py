"""Rounds are put together, kept and read again."""

from __future__ import annotations

from pathlib import Path

from loadtest.bench.figures import About, Figures, Results


def results() -> Results:
    found = Results()
    for number, rate in enumerate((100.0, 90.0, 130.0), 1):
        found.add("a", "mixed", "c = 64", number, Figures(rate, rate / 10, None, failed=1))
    found.add("b", "mixed", "c = 64", 1, Figures(10.0))
    found.systems["a"] = About("as documented", "1.2", 2**20, 0.5)
    return found


def test_rounds_give_median_and_spread() -> None:
    over = results().over("a", "mixed", "c = 64")
    assert over is not None
    assert (over.rate, over.least, over.most, over.p50, over.p99, over.failed) == (100, 90, 130, 10, None, 3)


def test_what_was_not_measured_is_none() -> None:
    assert results().over("a", "short", "c = 64") is None
    assert results().rows("mixed", "c = 64") == ["a", "b"]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results().write(tmp_path / "bench.json", {"model": "m"})
    again, facts = Results.read(tmp_path / "bench.json")
    assert again == results()
    assert facts["model"] == "m"
