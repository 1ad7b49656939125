"""Profile exports of perf_analyzer are read, and arrivals written, in its units."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.bench import perf_analyzer
from loadtest.bench.processes import CannotRun

SECOND = 1_000_000_000


def exported(answers: list[tuple[float, float]], windows: list[float]) -> str:
    requests = [{"timestamp": int(a * SECOND), "response_timestamps": [int(b * SECOND)]} for a, b in answers]
    experiment = {"requests": requests, "window_boundaries": [int(at * SECOND) for at in windows]}
    return json.dumps({"experiments": [experiment]})


def test_answers_within_the_windows_are_counted() -> None:
    figures = perf_analyzer.read(exported([(0.5, 0.9), (0.9, 1.1), (1.5, 1.6), (2.9, 3.2)], [1, 2, 3]))
    assert figures.rate == 1
    assert figures.p50 == pytest.approx(150)
    assert figures.seconds == 2


def test_requests_without_an_answer_are_left_out() -> None:
    lost = {"timestamp": SECOND, "response_timestamps": []}
    value = json.loads(exported([(1.1, 1.2)], [1, 2]))
    value["experiments"][0]["requests"].append(lost)
    assert perf_analyzer.read(json.dumps(value)).rate == 1


def test_no_answer_at_all_is_said() -> None:
    with pytest.raises(CannotRun, match="no answer"):
        perf_analyzer.read(exported([], [1, 2]))


def test_arrivals_become_microseconds_between_them(tmp_path: Path) -> None:
    perf_analyzer.write_intervals(tmp_path / "intervals", [0.001, 0.0015, 0.0015, 1.0])
    assert (tmp_path / "intervals").read_text().split() == ["1000", "500", "1", "998500"]


def test_texts_are_one_row_a_request(tmp_path: Path) -> None:
    perf_analyzer.write_texts(tmp_path / "texts.json", ["a", "b"])
    rows = json.loads((tmp_path / "texts.json").read_text())["data"]
    assert [row["text"]["content"] for row in rows] == [["a"], ["b"]]


def test_an_absent_one_is_told_with_the_reason(tmp_path: Path) -> None:
    assert "make bench" in perf_analyzer.why_absent(tmp_path)
    (tmp_path / "perf_analyzer.absent").write_text("it is built for linux on x86_64")
    assert "built for linux" in perf_analyzer.why_absent(tmp_path)
