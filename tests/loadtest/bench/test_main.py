"""The whole bench on a tiny model: its reports are there and hold every system that was asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loadtest.bench.__main__ import main
from loadtest.bench.figures import Results
from tests.serving.bundles import write_bundle


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (Debian package wrk)")
def test_a_quick_bench_measures_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_bundle(tmp_path / "models", backend="onnxruntime").parent
    words = [
        str(model),
        "--rounds",
        "1",
        "--seconds",
        "0.5",
        "--concurrency",
        "2",
        "--traces",
        "mixed",
        "--no-open-loop",
    ]
    words += ["--systems", "ceiling", "gateway", "plain"]
    words += ["--output", str(tmp_path / "out"), "--markdown", str(tmp_path / "part.md")]
    assert main(words) == 0
    results, facts = Results.read(tmp_path / "out" / "bench.json")
    assert facts["model"] == "intent"
    for row in ("gateway, HTTP JSON", "gateway, HTTP binary", "plain FastAPI"):
        found = results.over(row, "mixed", "c = 2")
        assert found is not None, row
        assert found.rate > 0
        assert found.failed == 0
    assert not results.systems["gateway"].absent
    assert not [note for note in results.systems["plain"].notes if "labels are not" in note]
    part = (tmp_path / "part.md").read_text("utf-8")
    assert "| gateway, HTTP JSON |" in part
    assert "**goals**" in part
    assert "<svg" in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert (tmp_path / "out" / "throughput.svg").read_text("utf-8").startswith("<svg xmlns=")
    assert "report.html" in capsys.readouterr().out


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "make bench" in capsys.readouterr().err
