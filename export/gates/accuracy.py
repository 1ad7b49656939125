"""Gate: the graph is as good as the checkpoint, over all rows and in every slice of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import binomtest

from export.gates.case import Case, Verdict
from serving.scoring import bootstrap
from serving.tensors import Array, Row

NAME, CODE = "accuracy", 11
QUESTION = "is the graph as good as the checkpoint on the same rows, overall, in every class and at every length?"
# A slice has fewer rows: it may lose more, and fails only where chance does not explain it.
SLICE_FACTOR = 3.0
SIGNIFICANCE = 0.05
BUCKETS = 4
# Fewer rows show nothing by themselves.
SMALLEST = 8


@dataclass(frozen=True)
class Paired:
    """The same rows before and after: ``lost`` and ``gained`` count rows, ``p`` is that chance alone lost so many."""

    name: str
    rows: int
    lost: int
    gained: int
    p: float

    @property
    def points(self) -> float:
        """Hundredths lost."""
        return 100 * (self.lost - self.gained) / max(1, self.rows)


def judge(case: Case) -> Verdict:
    """The first metric may lose ``tolerance`` points; a slice three times as much, unless chance explains it.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947, in the exact
    form; one-sided, with the significance divided by the number of slices (Bonferroni).
    """
    # Rounded, since 1 - 0.99 is a little more than a point.
    lost = round(100 * (case.reference.value - case.judged.value), 9)
    overall = (
        f"{case.judged.metric} of {case.judged.name}: {case.judged.value:.4f}, PyTorch {case.reference.value:.4f}: "
        f"lost {lost:.2f} points, allowed {case.tolerance:g}"
    )
    if not all(field.dtype == "BYTES" for field in case.task.targets):
        low, high = _interval(case)
        return Verdict(
            NAME, lost <= case.tolerance, f"{overall}; 95 % interval {low:.2f} to {high:.2f}",
            {"lost_points": lost, "interval": [low, high]},
        )  # fmt: skip
    whole, *slices = _paired(case)
    worse = [found for found in slices if _is_worse(found, len(slices), case.tolerance)]
    # Written so that NaN fails.
    passed = lost <= case.tolerance and not worse
    hidden = "".join(
        f"; in {found.name} it lost {found.points:.1f} points ({found.lost} rows lost, {found.gained} gained of "
        f"{found.rows}, p {found.p:.2g})"
        for found in worse
    )
    paired = f"; {whole.lost} rows lost, {whole.gained} gained, McNemar p {whole.p:.2g}; {len(slices)} slices compared"
    return Verdict(
        NAME, passed, overall + paired + hidden,
        {"lost_points": lost, "paired": [{**asdict(found), "points": found.points} for found in (whole, *slices)]},
    )  # fmt: skip


def _is_worse(found: Paired, slices: int, tolerance: float) -> bool:
    return found.points > SLICE_FACTOR * tolerance and found.p < SIGNIFICANCE / slices


def _paired(case: Case) -> Iterator[Paired]:
    """All rows, then each class and each bucket of lengths."""
    before, after = (_right(case, side.answers) for side in (case.reference, case.judged))
    yield _mcnemar("all rows", before, after, np.ones(len(before), bool))
    for name, chosen in _slices(case):
        if chosen.sum() >= SMALLEST:
            yield _mcnemar(name, before, after, chosen)


def _right(case: Case, answers: Sequence[Row]) -> Array:
    targets = [field.name for field in case.task.targets]
    pairs = zip(answers, case.rows, strict=True)
    return np.array([all(answer[name] == row[name] for name in targets) for answer, row in pairs])


def _slices(case: Case) -> Iterator[tuple[str, Array]]:
    for field in (target for target in case.task.targets if not target.shape):
        values = np.array([str(row[field.name]) for row in case.rows], object)
        for value in sorted(set(values)):
            yield f"{field.name} {value!r}", np.asarray(values == value)
    lengths = np.array(case.lengths)
    borders = np.unique(np.quantile(lengths, np.linspace(0, 1, BUCKETS + 1)).round())
    for low, high in pairwise(borders):
        last = high == borders[-1]
        inside = (lengths >= low) & ((lengths <= high) if last else (lengths < high))
        yield f"length {low:.0f} to {high if last else high - 1:.0f}", inside


def _mcnemar(name: str, before: Array, after: Array, chosen: Array) -> Paired:
    lost, gained = int((before & ~after & chosen).sum()), int((~before & after & chosen).sum())
    p = binomtest(lost, lost + gained, alternative="greater").pvalue if lost + gained else 1.0
    return Paired(name, int(chosen.sum()), lost, gained, float(p))


def _interval(case: Case) -> tuple[float, float]:
    """Points lost, on the same resampled rows before and after."""

    def lost(indices: Array) -> float:
        rows = [case.rows[i] for i in indices]
        before, after = (
            float(case.task.score([side.answers[i] for i in indices], rows)[case.judged.metric])
            for side in (case.reference, case.judged)
        )
        return 100 * (before - after)

    return bootstrap(lost, len(case.rows))
