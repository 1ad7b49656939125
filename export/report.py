"""The export report: what was tried, what was measured, which gates passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from export.verification import Answered

if TYPE_CHECKING:
    from export.ladder import Candidate, Evidence

HTML, JSON = "export_report.html", "export_report.json"


def line(candidate: Candidate, reference: Answered) -> str:
    """One candidate in one line of the terminal."""
    answered, measured = candidate.answered, candidate.measured
    low, high = answered.interval
    return (
        f"{candidate.name}: {answered.metric} {answered.value:.4f} [{low:.4f}, {high:.4f}] "
        f"(PyTorch {reference.value:.4f}), agreement {100 * answered.agreement:.2f} %, {candidate.size / 1e6:.1f} MB, "
        f"p50 {measured.p50_ms} ms, p99 {measured.p99_ms} ms, {measured.rows_per_second:,.0f} rows/s, "
        f"{measured.memory / 1e6:.0f} MB of memory"
    )


def as_json(evidence: Evidence) -> dict[str, Any]:
    """Everything of the report as plain data."""
    return {}


def page(name: str, evidence: Evidence) -> str:
    """HTML"""
    return "<html></html>"
