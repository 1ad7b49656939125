"""The export report says in words what was compared and whether it passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export import report
from export.sweep import Swept
from export.verification import Candidate

PER_CLASS = {"good": {"f1": 0.9}, "<b>bad</b>": {"f1": 0.8}}


def candidate(name: str, value: float, **changes: Any) -> Candidate:
    figures: dict[str, Any] = {
        "answers": [{}] * 1234, "metric": "accuracy", "scores": {"accuracy": value, "per_class": PER_CLASS},
        "interval": (value - 0.01, value + 0.01), "agreement": 0.995, "largest_difference": 0.25,
        "mean_difference": 0.01, "size": 2_500_000, "p50_ms": 1.5, "p99_ms": 3.25,
    }  # fmt: skip
    return Candidate(name=name, **{**figures, **changes})


CANDIDATES = [candidate("pytorch", 0.91, size=0, p50_ms=None, p99_ms=None), candidate("int8", 0.905)]
SWEEP = [Swept(1, 3, 2e-7), Swept(2, 3, 4e-7), Swept(1, 5, 1e-7), Swept(2, 5, 3e-7)]


def test_one_line_for_the_terminal() -> None:
    line = report.line(CANDIDATES[1], CANDIDATES[0])
    assert line.startswith("int8: accuracy 0.9050 [0.8950, 0.9150] (PyTorch 0.9100), agreement 99.50 %, 2.5 MB")


def test_everything_is_there_as_data() -> None:
    value = report.as_json(CANDIDATES, SWEEP, [(True, "kept"), (False, "lost")])
    assert value["candidates"]["int8"]["accuracy"] == 0.905
    assert value["candidates"]["int8"]["scores"]["per_class"] == PER_CLASS
    assert value["sweep"][1] == {"rows": 2, "length": 3, "difference": 4e-7}
    assert value["gates"] == [{"passed": True, "gate": "kept"}, {"passed": False, "gate": "lost"}]


@pytest.mark.parametrize("candidates", [CANDIDATES, CANDIDATES[:1]], ids=["measured", "failed before it was measured"])
def test_the_page_shows_figures_gates_and_shapes(tmp_path: Path, candidates: list[Candidate]) -> None:
    path = tmp_path / "report.html"
    report.write(path, "toy <i>", candidates, SWEEP, [(False, "accuracy lost 5 points")])
    page = path.read_text("utf-8")
    for fragment in ("1,234 validation rows", "0.9100", "accuracy lost 5 points", "4.0e-07", "toy &lt;i&gt;"):
        assert fragment in page
    assert ("0.9050" in page) == (len(candidates) == 2)
    assert "<b>bad</b>" not in page
    assert "<script" not in page
