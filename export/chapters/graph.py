"""Chapter: how the graph was made, what it is made of, and where its bytes are."""

from __future__ import annotations

from collections.abc import Sequence

from export import operators
from export.evidence import Candidate, Evidence
from export.parts import parts
from export.route_choice import Route
from reporting import charts
from reporting.page import Block, Toned, figure, folded, table

HEADING = "Graph"
# Operators that are worth a reader's time; the others are there to be opened.
MOST = 16
NOTE = "Operators are counted in the session as ONNX Runtime optimized it, which is what runs."


def blocks(evidence: Evidence) -> list[Block]:
    """The routes to the floating-point graph; operators and size by part, before and after."""
    sides = evidence.compared
    return [*_routes(evidence), *_operators(sides), *(_sizes(sides) if sides else [])]


def _routes(evidence: Evidence) -> list[Block]:
    if not evidence.routes:
        return []
    rows = [
        [
            route.name,
            f"{route.p50_ms:.2f}" if route.passed else None,
            f"{route.ratio:.2f}" if route.passed else None,
            f"{route.opset}, {route.ir}" if route.opset else None,
            _outcome(route, evidence),
        ]
        for route in evidence.routes
    ]
    headers = ["route to the fp32 graph", "p50, ms", "× native", "opset, IR", "outcome"]
    return [table(headers, rows, numeric=[1, 2, 3])]


def _outcome(route: Route, evidence: Evidence) -> Toned:
    if not route.passed:
        return Toned(route.reason, "soft")
    uses = {"serves in fp32": evidence.served_route, "is quantized": evidence.quantized_route}
    used = [use for use, name in uses.items() if name == route.name]
    return Toned(", ".join(used) or "passed", "good" if used else "")


def _operators(sides: Sequence[Candidate]) -> list[Block]:
    kinds = dict.fromkeys(kind for side in sides for kind in side.structure.counts)
    rows = [[operators.NAMES.get(kind, kind), *(side.structure.counts.get(kind) for side in sides)] for kind in kinds]
    headers = ["operators", *(side.name for side in sides)]
    tables = [table(headers, some, numeric=range(1, len(headers))) for some in (rows[:MOST], rows[MOST:]) if some]
    return [*tables[:1], *(folded(f"{len(rows) - MOST} more kinds of operators", rest) for rest in tables[1:])]


def _sizes(sides: Sequence[Candidate]) -> list[Block]:
    found = {side.name: parts(side.graphed.file) for side in sides}
    names = list(dict.fromkeys(part for sizes in found.values() for part in sizes))
    series = {side: [sizes.get(part, 0) / 1e6 for part in names] for side, sizes in found.items()}
    caption = "Size by part of the model. Other: the structure of the graph, and what its names do not tell."
    return [figure(charts.bars(names, series, "MB"), caption)]
