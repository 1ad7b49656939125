"""The export report, as a page, as data and as lines of the terminal: what was tried, measured and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from export.chapters import behaviour, candidates, drifting, gates, graph, origin, quality, shapes, summary
from export.evidence import Candidate, Evidence
from export.parts import parts
from export.verification import Answered
from reporting.page import Page

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


def page(name: str, evidence: Evidence) -> str:
    """The report as one self-contained HTML page. One inside of a bundle cannot tell the digest of that bundle."""
    found = Page(f"Export report: {name}", _subtitle(evidence))
    for heading, blocks, note in (
        (summary.HEADING, summary.blocks(evidence), ""),
        (gates.HEADING, gates.blocks(evidence), gates.NOTE),
        (candidates.HEADING, candidates.blocks(evidence), candidates.NOTE),
        (quality.HEADING, quality.blocks(evidence), quality.NOTE),
        (drifting.HEADING, drifting.blocks(evidence), drifting.NOTE),
        (graph.HEADING, graph.blocks(evidence), graph.NOTE),
        (behaviour.HEADING, behaviour.blocks(evidence), ""),
        (shapes.HEADING, shapes.blocks(evidence), shapes.NOTE),
        (origin.HEADING, origin.blocks(evidence), ""),
    ):
        if blocks:
            found.section(heading, *blocks, note=note)
    return found.html()


def as_json(evidence: Evidence) -> dict[str, Any]:
    """Everything of the page as plain data; null stands for what is no number, which JSON does not have."""
    kept, reference, bundle = evidence.kept, evidence.reference, evidence.bundle
    told = {
        "verdict": summary.sentence(evidence),
        "failure": evidence.failure,
        "remarks": evidence.remarks,
        "kept": kept.name if kept and kept.kept else None,
        "bundle": bundle and {name: getattr(bundle, name) for name in ("name", "version", "digest", "source", "host")},
        "pytorch": reference and {**reference.summary(), "scores": reference.scores},
        "candidates": {one.name: _candidate(one, evidence) for one in evidence.candidates},
        "parts": {one.name: parts(one.graphed.file) for one in evidence.compared},
        "drift": _rows(evidence.drift, "name", "layer", "own", "accumulated"),
        "routes": _rows(evidence.routes, "name", "passed", "reason", "p50_ms", "ratio", "opset", "ir"),
        "sweep": _rows(evidence.sweep, "rows", "length", "difference"),
    }
    finite: dict[str, Any] = _finite(told)
    return finite


def _candidate(one: Candidate, evidence: Evidence) -> dict[str, Any]:
    return {
        **one.summary(),
        "scores": one.answered.scores,
        "outdone": candidates.outdone(one, evidence.candidates),
        "gates": [verdict.summary() for verdict in one.verdicts],
    }


def _rows(found: Sequence[object], *names: str) -> list[dict[str, Any]]:
    return [{name: getattr(one, name) for name in names} for one in found]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _subtitle(evidence: Evidence) -> str:
    if evidence.reference is None:
        return "not verified: the export failed before that"
    return f"verified on {len(evidence.reference.answers):,} validation rows by the backend that will serve it"
