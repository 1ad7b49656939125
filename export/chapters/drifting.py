"""Chapter: where a graph of integers leaves the floating-point one, product by product."""

from __future__ import annotations

import re

from export.evidence import Evidence
from export.int8.drift import Drift
from reporting.comparisons import nested
from reporting.page import Block, figure

HEADING = "Drift by layer"
NOTE = (
    "Relative error of every integer product's output (Frobenius norm) over calibration rows. Its own: by quantizing "
    "this product alone. Accumulated: what comes out when the whole graph runs in integers."
)
# More bars than this are no picture any more.
MOST = 48
# What products of a layer are called, in the order in which they run; the rest comes last.
ROLES = (r"query|\bq_|\bq$|qkv", r"key|\bk_|\bk$", r"value|\bv_|\bv$", r"attention|attn", r"intermediate|lin1|Wi|ffn$")


def blocks(evidence: Evidence) -> list[Block]:
    """The products in the order of depth, those with the largest errors of their own if there are very many."""
    if not evidence.drift:
        return []
    worst = sorted(evidence.drift, key=lambda found: -found.own)[:MOST]
    rows = [(*place(found), 100 * found.own, 100 * found.accumulated) for found in sorted(worst, key=_depth)]
    chart = nested(rows, "its own error", "accumulated error", "% of the output")
    first = worst[0]
    which = (
        f" The {MOST} of {len(evidence.drift)} products with the largest errors of their own."
        if len(evidence.drift) > MOST
        else ""
    )
    caption = f"Largest of its own: {' '.join(place(first))}, {100 * first.own:.2g} %.{which}"
    return [figure(chart, caption)]


def place(found: Drift) -> tuple[str, str]:
    """The layer of a product and its name in it, as ``("layer 3", "attention.self.query")``."""
    path = found.layer.replace("/", ".").strip(".")
    path = re.sub(r"\.(MatMul|Gemm)(_\d+)?$", "", path)
    layer = re.match(r"(?:.*?\.)?\w+\.(\d+)\.(.+)", path)
    return (f"layer {layer[1]}", layer[2]) if layer else ("head", path)


def _depth(found: Drift) -> tuple[bool, int, int, list[tuple[int, str]]]:
    """Layers by number and then the rest; in a layer, products in the order in which they run."""
    layer, path = place(found)
    number = layer.removeprefix("layer ")
    role = next((role for role, names in enumerate(ROLES) if re.search(names, path)), len(ROLES))
    pieces = [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", found.name)]
    return not number.isdigit(), int(number) if number.isdigit() else 0, role, pieces
