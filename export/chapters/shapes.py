"""Chapter: the shapes that were never traced, against PyTorch."""

from __future__ import annotations

from export.evidence import Evidence
from reporting.page import Block, table

HEADING = "Shapes never traced, against PyTorch"
NOTE = "Largest relative difference of the floating-point graph at every shape; half of the rows are padded."


def blocks(evidence: Evidence) -> list[Block]:
    """One line for each number of rows, one column for each length."""
    if not evidence.sweep:
        return []
    lengths = sorted({swept.length for swept in evidence.sweep})
    found = {(swept.rows, swept.length): f"{swept.difference:.1e}" for swept in evidence.sweep}
    body = [
        [f"{rows} rows" if rows > 1 else "1 row", *(found.get((rows, length)) for length in lengths)]
        for rows in sorted({rows for rows, _ in found})
    ]
    return [table(["", *(f"{length} tokens" for length in lengths)], body, numeric=range(1, len(lengths) + 1))]
