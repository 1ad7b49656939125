"""What was measured of each contender, and the tables that it makes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PRODUCT = "downstream finetune"
EXAMPLE = "run_classification"
LOOP, SORTED_LOOP = "PyTorch loop, random batches", "PyTorch loop, sorted by length"
# How many times faster than each contender `downstream finetune` is to be, in real tokens a second.
GOALS = {EXAMPLE: 2.0, LOOP: 0.95, SORTED_LOOP: 0.95}

HEADINGS = ("", "tokens/s", "spread", "ms/step", "padding", "peak MiB", "downstream is faster by", "goal")
# In the order of a run. What a process takes outside them is starting and ending: imports, above all.
STAGES = ("reading", "encoding", "training", "evaluating", "scoring", "saving")
STAGE_HEADINGS = ("seconds", "start and end", *STAGES, "whole")


@dataclass(frozen=True)
class Run:
    """One process of one contender: its steps after the warm-up, its stages in seconds, its wall time and memory.

    ``tokens`` are real ones, ``padded_tokens`` all that were computed; ``seconds`` are of the ``steps`` measured;
    ``peak`` is the largest resident set in MiB.
    """

    steps: int
    seconds: float
    tokens: int
    padded_tokens: int
    stages: Mapping[str, float]
    wall: float
    peak: float

    @property
    def rate(self) -> float:
        """Real tokens a second."""
        return self.tokens / self.seconds


Runs = Mapping[str, Sequence[Run]]


def ratios(runs: Runs, contender: str) -> list[float]:
    """How many times faster than a contender the product was, round by round."""
    return [own.rate / other.rate for own, other in zip(runs[PRODUCT], runs[contender], strict=True)]


def speed_rows(runs: Runs) -> list[list[str]]:
    """One row of text for each contender, under HEADINGS; medians over the rounds."""
    rows = []
    for contender, rounds in runs.items():
        rates = [run.rate for run in rounds]
        padding = 1 - sum(run.tokens for run in rounds) / sum(run.padded_tokens for run in rounds)
        rows.append([
            contender,
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f} .. {max(rates):,.0f}",
            f"{statistics.median(1000 * run.seconds / run.steps for run in rounds):.0f}",
            f"{padding:.0%}",
            f"{statistics.median(run.peak for run in rounds):.0f}",
            *_faster(runs, contender),
        ])  # fmt: skip
    return rows


def _faster(runs: Runs, contender: str) -> list[str]:
    if contender not in GOALS:
        return ["-", "-"]
    found, goal = ratios(runs, contender), GOALS[contender]
    middle = statistics.median(found)
    verdict = "met" if middle >= goal else "missed"
    return [f"{middle:.2f}x ({min(found):.2f} .. {max(found):.2f})", f">= {goal:g}x, {verdict}"]


def stage_rows(runs: Runs) -> list[list[str]]:
    """Seconds by stage for each contender, under STAGE_HEADINGS; medians over the rounds."""
    rows = []
    for contender, rounds in runs.items():
        untold = [run.wall - sum(run.stages.values()) for run in rounds]
        by_stage = [[run.stages[name] for run in rounds] if name in rounds[0].stages else [] for name in STAGES]
        columns = [untold, *by_stage, [run.wall for run in rounds]]
        rows.append([contender, *(f"{statistics.median(column):.1f}" if column else "-" for column in columns)])
    return rows


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table for a terminal: columns of one width, figures to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width)
                  for index, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in (headings, *rows)
    ]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table for a document."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, ["---"] + ["--:"] * (len(headings) - 1), *rows))
