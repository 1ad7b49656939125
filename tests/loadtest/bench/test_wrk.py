"""What wrk prints is read, and what it sends is written, as requests.lua has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench import wrk
from loadtest.bench.processes import CannotRun

OUTPUT = """Running 4s test @ http://127.0.0.1:1/
  1 threads and 64 connections
RESULT {"requests": 410, "microseconds": 4000000, "p50": 150500, "p99": 301250, "refused": 10, "broken": 2}
"""


def test_refused_requests_are_failures_and_not_in_the_rate() -> None:
    figures = wrk.read(OUTPUT)
    assert figures.rate == pytest.approx(100)
    assert (figures.p50, figures.p99) == (150.5, 301.25)
    assert figures.failed == 12
    assert figures.seconds == 4


def test_without_an_answer_there_are_no_latencies() -> None:
    figures = wrk.read('RESULT {"requests": 0, "microseconds": 1000000, "p50": 0, "p99": 0, "refused": 0, "broken": 0}')
    assert (figures.rate, figures.p50, figures.p99) == (0, None, None)


def test_a_run_that_failed_says_what_wrk_said() -> None:
    with pytest.raises(CannotRun, match="unable to connect"):
        wrk.read("", "unable to connect to 127.0.0.1:1 Connection refused")


def test_requests_are_written_with_their_lengths(tmp_path: Path) -> None:
    wrk.write_requests(tmp_path / "requests", [b"POST / HTTP/1.1\r\n\r\n\n", b"x"])
    assert (tmp_path / "requests").read_bytes() == b"20\nPOST / HTTP/1.1\r\n\r\n\n1\nx"


def test_an_absent_wrk_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="apt-get install wrk"):
        wrk.check_installed()
