"""Chapter: what a graph does in batches, on older CPUs, and to its own probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from export.chapters.candidates import named
from export.evidence import Candidate, Evidence
from export.gates import calibration, saturation
from export.invariance import BATCH, BOUND
from reporting.page import Block, Toned, table, text

HEADING = "Batches, overflow, probabilities"


def blocks(evidence: Evidence) -> list[Block]:
    """Batch invariance, overflow of 16-bit sums and calibration of every graph, each as a table."""
    candidates = evidence.candidates
    return [*_batches(candidates), *_overflow(candidates), *_probabilities(candidates)]


def _batches(candidates: list[Candidate]) -> Iterator[Block]:
    if not candidates:
        return
    yield text(
        f"The same rows in random batches of up to {BATCH} and alone. A graph is served in batches only where no label "
        f"flips and no output moves by {100 * BOUND:g} % of its spread."
    )
    rows = [
        [
            named(one), found.rows, found.batches, f"{found.flips:,} ({100 * found.flip_rate:.2g} %)",
            f"{100 * found.difference:.2g} %",
            Toned("in batches", "good") if found.held else Toned("row by row", "warn"),
        ]
        for one in candidates
        if (found := one.measured.invariance)
    ]  # fmt: skip
    headers = ["graph", "rows", "arrangements", "labels flipped", "moved, of the spread", "served"]
    yield table(headers, rows, numeric=[1, 2, 3, 4])


def _overflow(candidates: list[Candidate]) -> Iterator[Block]:
    rows = [
        [
            named(one), figures["sums"], figures["overflows"],
            f"{100 * figures['overflows'] / max(1, figures['sums']):.2g} %", ", ".join(figures["needs"]) or "nothing",
        ]
        for one in candidates
        if (figures := _figures(one, saturation.NAME)).get("sums")
    ]  # fmt: skip
    if rows:
        yield text(
            "Sums of two 8-bit products on calibration rows that would not fit into 16 bits, in which CPUs without "
            "VNNI add them."
        )
        yield table(["graph", "sums", "overflow", "share", "needs of a CPU"], rows, numeric=[1, 2, 3])


def _probabilities(candidates: list[Candidate]) -> Iterator[Block]:
    found = {one.name: _figures(one, calibration.NAME) for one in candidates}
    sides = {name: figures["graph"] for name, figures in found.items() if "graph" in figures}
    if not sides:
        return
    reference = next(figures["pytorch"] for figures in found.values() if "pytorch" in figures)
    rows = [
        [Toned(name, "name"), f"{side['raw']:.4f}", f"{side['error']:.4f}", f"{side['temperature']:.3f}"]
        for name, side in {"PyTorch": reference, **sides}.items()
    ]
    yield text(
        "Expected calibration error: how far probabilities are from the share of answers that are right, 0 at best; as "
        "it is, and with a temperature that was fitted on other rows."
    )
    headers = ["graph", "error as it is", "error with temperature", "temperature"]
    yield table(headers, rows, numeric=[1, 2, 3])


def _figures(candidate: Candidate, gate: str) -> Mapping[str, Any]:
    return next((found.figures for found in candidate.verdicts if found.gate == gate), {})
