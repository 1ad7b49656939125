"""The export report: what the graph was compared with, what came out, which gates passed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.sweep import Swept
from export.verification import Candidate
from reporting import charts
from reporting.page import Page, figure, table, verdict

Gates = Sequence[tuple[bool, str]]


def line(candidate: Candidate, reference: Candidate) -> str:
    """One candidate in one line of the terminal."""
    low, high = candidate.interval
    return (
        f"{candidate.name}: {candidate.metric} {candidate.value:.4f} [{low:.4f}, {high:.4f}] "
        f"(PyTorch {reference.value:.4f}), agreement {100 * candidate.agreement:.2f} %, "
        f"{candidate.size / 1e6:.1f} MB, p50 {candidate.p50_ms} ms, p99 {candidate.p99_ms} ms"
    )


def as_json(candidates: Sequence[Candidate], sweep: Sequence[Swept], gates: Gates) -> dict[str, Any]:
    """Everything of the report as plain data."""
    return {
        "candidates": {c.name: {**c.summary(), "scores": c.scores} for c in candidates},
        "sweep": [swept.__dict__ for swept in sweep],
        "gates": [{"passed": passed, "gate": message} for passed, message in gates],
    }


def write(path: Path, title: str, candidates: Sequence[Candidate], sweep: Sequence[Swept], gates: Gates) -> None:
    """Write the HTML page."""
    subtitle = "not verified: the export failed before that"
    if candidates:
        subtitle = f"verified on {len(candidates[0].answers):,} validation rows by the backend that will serve it"
    page = Page(f"Export report: {title}", subtitle)
    outcome = "; ".join(f"{candidate.name} {candidate.verdict}" for candidate in candidates if candidate.verdict)
    page.section("Gates", *[verdict(passed, message) for passed, message in gates], note=outcome)
    if candidates:
        page.section(
            "Candidates", _figures(candidates), note="Latency: one row at a time on one thread of this machine. "
            "In batches: rows of random batches against each of them alone; the difference is of the outputs' spread.",
        )  # fmt: skip
    if len(candidates) > 1:
        page.section("Quality by class", *_per_class(candidates))
    if sweep:
        page.section(
            "Shapes never traced, against PyTorch", _sweep(sweep), note="Largest relative difference of the fp32 graph."
        )
    page.write(path)


def _figures(candidates: Sequence[Candidate]) -> Any:
    """One column per candidate: figures to compare stand side by side."""
    lines: dict[str, list[object]] = {
        candidates[0].metric: [f"{c.value:.4f}" for c in candidates],
        "95 % interval": [f"{c.interval[0]:.4f} to {c.interval[1]:.4f}" for c in candidates],
        "agreement with PyTorch, %": [f"{100 * c.agreement:.2f}" for c in candidates],
        "largest logit difference": [f"{c.largest_difference:.4f}" for c in candidates],
        "mean logit difference": [f"{c.mean_difference:.4f}" for c in candidates],
        "labels flipped in batches": [
            c.invariance and f"{c.invariance.flips} of {c.invariance.rows}" for c in candidates
        ],
        "largest difference in batches, %": [
            c.invariance and f"{100 * c.invariance.difference:.2g}" for c in candidates
        ],
        "size, MB": [f"{c.size / 1e6:.1f}" if c.size else None for c in candidates],
        "latency p50, ms": [c.p50_ms for c in candidates],
        "latency p99, ms": [c.p99_ms for c in candidates],
    }
    headers = ["", *(c.name for c in candidates)]
    return table(headers, [[name, *values] for name, values in lines.items()], numeric=range(1, len(headers)))


def _sweep(sweep: Sequence[Swept]) -> Any:
    lengths = sorted({swept.length for swept in sweep})
    found = {(swept.rows, swept.length): f"{swept.difference:.1e}" for swept in sweep}
    body = [[f"{rows} rows", *(found[rows, length] for length in lengths)] for rows in sorted({s.rows for s in sweep})]
    return table(["", *(f"{length} tokens" for length in lengths)], body, numeric=range(1, len(lengths) + 1))


def _per_class(candidates: Sequence[Candidate]) -> list[Any]:
    if "per_class" not in candidates[0].scores:
        return []
    labels = list(candidates[0].scores["per_class"])
    series = {c.name: [c.scores["per_class"][label]["f1"] for label in labels] for c in candidates}
    return [figure(charts.bars(labels, series, "F1"), "F1 of every class, by candidate")]
