"""Chapter: how the export ended and what the graph is worth, at a glance."""

from __future__ import annotations

from export.evidence import Candidate, Evidence, Route
from reporting.page import Block, facts, text, verdict
from serving.manifest import Manifest

HEADING = "Result"


def blocks(evidence: Evidence, manifest: Manifest | None) -> list[Block]:
    """One sentence, the key figures of the graph that was kept or came nearest, and what was remarked on the way."""
    return [
        verdict(not evidence.failure, sentence(evidence, manifest)),
        facts(tiles(evidence, manifest)),
        *(text(remark) for remark in evidence.remarks),
    ]


def sentence(evidence: Evidence, manifest: Manifest | None) -> str:
    """What was written where, or why nothing was."""
    kept = evidence.kept
    if evidence.failure or kept is None:
        where = f"{kept.name} came nearest and went to quarantine, " if kept else "no graph could be measured, "
        return f"{where}nothing was written to the repository: {evidence.failure or 'no graph was tried'}"
    accepted = [found.gate for found in kept.verdicts if found.accepted]
    gates = f"fails {', '.join(accepted)}, which a person accepted, and passes" if accepted else "passes"
    bundle = f" as {manifest.name}, version {manifest.version}" if manifest else ""
    return f"{kept.name} {gates} every {'other ' if accepted else ''}gate and was written to the repository{bundle}"


def tiles(evidence: Evidence, manifest: Manifest | None) -> dict[str, object]:
    """Name and value of each key figure that is known."""
    found: dict[str, object] = {}
    kept, reference = evidence.kept, evidence.reference
    if kept:
        found.update(_figures(kept, evidence.candidates[0]))
    if reference:
        low, high = reference.interval
        label = f"{reference.metric} of PyTorch"
        found = {**dict(list(found.items())[:1]), label: f"{reference.value:.4f} [{low:.4f}, {high:.4f}]", **found}
    route = chosen(evidence)
    if route:
        found["ONNX opset, IR"] = f"{route.opset}, {route.ir}"
    if manifest:
        found["needs"] = ", ".join(manifest.needs) or "no instruction set"
        if manifest.digest:
            found["digest"] = manifest.digest
    return found


def chosen(evidence: Evidence) -> Route | None:
    """The route by which the graph in the bundle was made, where that is known."""
    kept = evidence.kept
    quantized = kept is not None and kept is not evidence.candidates[0]
    wanted = evidence.quantized_route if quantized else evidence.served_route
    return next((route for route in evidence.routes if route.name == wanted), None)


def _figures(kept: Candidate, floats: Candidate) -> dict[str, object]:
    answered, measured = kept.answered, kept.measured
    low, high = answered.interval
    speedup = measured.speedup
    before = f"{floats.size / 1e6:.1f} → " if kept is not floats else ""
    return {
        f"{answered.metric} of {kept.name}": f"{answered.value:.4f} [{low:.4f}, {high:.4f}]",
        "labels as PyTorch": f"{100 * answered.agreement:.2f} %",
        "size": f"{before}{kept.size / 1e6:.1f} MB",
        **({"speed": f"{speedup.ratio:.2f} × fp32 [{speedup.low:.2f}, {speedup.high:.2f}]"} if speedup else {}),
        "rows a second, busy": f"{measured.rows_per_second:,.0f}",
        "one row, p50 and p99": f"{measured.p50_ms:.1f}, {measured.p99_ms:.1f} ms",
        "memory of the process": f"{measured.memory / 1e6:,.0f} MB",
    }
