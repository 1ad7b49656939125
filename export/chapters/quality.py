"""Chapter: the same rows before and after, in every slice of them and in every class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.evidence import Candidate, Evidence
from export.gates import accuracy
from reporting import charts
from reporting.page import Block, Toned, figure, folded, table

HEADING = "Accuracy by slice"
NOTE = (
    "The same validation rows by PyTorch and by the graph. Lost: right before and wrong after. p: how likely chance "
    f"alone loses so many (McNemar, exact, one-sided). Slices of fewer than {accuracy.SMALLEST} rows show nothing."
)
# As many as fit a chart or a table that is read.
MOST = 24


def blocks(evidence: Evidence) -> list[Block]:
    """Paired figures by slice, the largest loss first, and F1 by class, where the task has classes."""
    kept = evidence.kept
    return [*_paired(kept), *_by_class(evidence, kept)] if kept else []


def _paired(kept: Candidate) -> list[Block]:
    figures = next((found.figures for found in kept.verdicts if found.gate == accuracy.NAME), {})
    whole, *slices = figures.get("paired", [None])
    if whole is None:
        return []
    slices.sort(key=lambda found: (-found["points"], found["p"]))
    first = _table([whole, *slices[:MOST]])
    rest = slices[MOST:]
    return [first, folded(f"{len(rest)} more slices", _table(rest))] if rest else [first]


def _table(slices: list[Mapping[str, Any]]) -> Block:
    headers = ["slice", "rows", "lost", "gained", "points lost", "p"]
    rows = [
        [
            found["name"], found["rows"], found["lost"], found["gained"],
            Toned(f"{found['points']:+.2f}", "warn" if found["p"] < accuracy.SIGNIFICANCE else ""),
            f"{found['p']:.2g}",
        ]
        for found in slices
    ]  # fmt: skip
    return table(headers, rows, numeric=range(1, len(headers)))


def _by_class(evidence: Evidence, kept: Candidate) -> list[Block]:
    scored = {"PyTorch": evidence.reference, kept.name: kept.answered}
    found = {name: side.scores.get("per_class", {}) for name, side in scored.items() if side}
    before, after = (found.get(name, {}) for name in scored)
    labels = [label for label in before if label in after]
    if not labels:
        return []
    moved = sorted(labels, key=lambda label: -abs(before[label]["f1"] - after[label]["f1"]))[:MOST]
    shown = [label for label in labels if label in moved]
    series = {name: [by_class[label]["f1"] for label in shown] for name, by_class in found.items()}
    which = f"; the {MOST} of {len(labels)} classes that moved most" if len(labels) > MOST else ""
    return [figure(charts.bars(shown, series, "F1"), f"F1 of every class{which}")]
