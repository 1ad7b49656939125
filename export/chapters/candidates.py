"""Chapter: every graph that was tried, what it gives and what it costs, and which of them are outdone."""

from __future__ import annotations

from collections.abc import Sequence

from export.evidence import Candidate, Evidence
from reporting.comparisons import Point, tradeoff
from reporting.page import Block, Toned, figure, table

HEADING = "Graphs that were tried"
NOTE = (
    "Measured on this host by the backend that serves: latency of one row at a time on one thread, rows a second of "
    "all cores, busy, memory of the whole process. Intervals are of 95 % by bootstrap."
)
KEPT, PASSED, REJECTED = "kept", "passes its gates", "fails a gate"


def blocks(evidence: Evidence) -> list[Block]:
    """What is given up for what, as a plot; then all figures."""
    candidates, reference = evidence.candidates, evidence.reference
    if not candidates:
        return []
    level = (f"PyTorch {reference.value:.4f}", reference.value) if reference else None
    points = [_point(candidate, candidates) for candidate in candidates]
    metric = candidates[0].answered.metric
    plot = tradeoff(points, "rows a second, all cores busy", metric, (KEPT, PASSED, REJECTED), level)
    caption = (
        f"Right and up is better. Bars are the 95 % interval of {metric}. Pale: another graph that passes its "
        f"gates is as good in both and better in one. Beside the names: the size."
    )
    return [figure(plot, caption), _quality(candidates), _cost(candidates), _outcomes(candidates)]


def outdone(candidate: Candidate, candidates: Sequence[Candidate]) -> bool:
    """Whether a graph that passes its gates is as good in metric and rows a second, and better in one of them."""
    own = _merits(candidate)
    others = [_merits(other) for other in candidates if other is not candidate and not other.missed]
    return any(
        other != own and all(theirs >= ours for theirs, ours in zip(other, own, strict=True)) for other in others
    )


def _merits(candidate: Candidate) -> tuple[float, float]:
    return candidate.answered.value, candidate.measured.rows_per_second


def _point(candidate: Candidate, candidates: Sequence[Candidate]) -> Point:
    low, high = candidate.answered.interval
    kind = KEPT if candidate.kept else REJECTED if candidate.missed else PASSED
    name = f"{candidate.name}, {candidate.size / 1e6:.1f} MB"
    return Point(
        name, candidate.measured.rows_per_second, candidate.answered.value, low, high, kind,
        outdone(candidate, candidates),
    )  # fmt: skip


def named(candidate: Candidate) -> Toned:
    """The name of a graph for a table; the one that was kept stands out."""
    return Toned(candidate.name, "strong" if candidate.kept else "name")


def _quality(candidates: Sequence[Candidate]) -> Block:
    metric = candidates[0].answered.metric
    headers = ["graph", f"{metric} [95 %]", "same labels", "largest diff.", "mean diff.", "batch flips"]
    rows = [
        [
            named(one),
            f"{one.answered.value:.4f} [{one.answered.interval[0]:.4f}, {one.answered.interval[1]:.4f}]",
            f"{100 * one.answered.agreement:.2f} %",
            f"{one.answered.largest_difference:.2g}",
            f"{one.answered.mean_difference:.2g}",
            f"{100 * one.measured.invariance.flip_rate:.2g} %",
        ]
        for one in candidates
    ]
    return table(headers, rows, numeric=range(1, len(headers)))


def _cost(candidates: Sequence[Candidate]) -> Block:
    headers = ["graph", "size, MB", "p50, ms", "p99, ms", "rows/s", "RAM, MB", "× fp32 [95 %]", "made, s"]
    rows = []
    for one in candidates:
        measured, speedup = one.measured, one.measured.speedup
        rows.append(
            [
                named(one),
                f"{one.size / 1e6:.1f}",
                f"{measured.p50_ms:.2f}",
                f"{measured.p99_ms:.2f}",
                f"{measured.rows_per_second:,.0f}",
                f"{measured.memory / 1e6:,.0f}",
                f"{speedup.ratio:.2f} [{speedup.low:.2f}, {speedup.high:.2f}]" if speedup else None,
                f"{one.seconds:.1f}" if one.seconds else None,
            ]
        )
    return table(headers, rows, numeric=range(1, len(headers)))


def _outcomes(candidates: Sequence[Candidate]) -> Block:
    rows = []
    for one in candidates:
        word, _, reason = one.outcome.partition("; " if not one.missed else ": ")
        rows.append([named(one), Toned(word, "bad" if one.missed else "good" if one.kept else ""), reason])
    return table(["graph", "outcome", "because"], rows)
