"""Chapter: how the export ended and what the graph is worth, at a glance."""

from __future__ import annotations

from export.evidence import Candidate, Evidence
from export.route_choice import Route
from export.verification import Answered
from reporting.page import Block, facts, text, verdict

HEADING = "Result"


def blocks(evidence: Evidence) -> list[Block]:
    """One sentence, the key figures of the graph that was kept or came nearest, and what was remarked on the way."""
    shown = tiles(evidence)
    bundle = evidence.bundle
    digest = f"Digest of the bundle: {bundle.digest}" if bundle and bundle.digest else ""
    told = [*([digest] if digest else []), *(f"Remark: {remark}" for remark in evidence.remarks)]
    reasons = {} if evidence.failure else _accepted(evidence)
    accepted = "; ".join(f"{gate}: {reason}" for gate, reason in reasons.items())
    return [
        verdict(not evidence.failure and not accepted, sentence(evidence), accepted=accepted),
        *([facts(shown)] if shown else []),
        *(text(line) for line in told),
    ]


def sentence(evidence: Evidence) -> str:
    """What was written where, or why nothing was."""
    kept, bundle = evidence.kept, evidence.bundle
    written = f" as {bundle.name}, version {bundle.version}" if bundle else ""
    if kept is None:
        return f"no graph could be measured, nothing was written: {evidence.failure or 'no graph was tried'}"
    if evidence.failure and (kept.kept or not bundle):
        return f"nothing was written: {evidence.failure}"
    if evidence.failure:
        return f"{kept.name} came nearest and is in quarantine{written}, not in the repository: {evidence.failure}"
    accepted = ", ".join(_accepted(evidence))
    gates = f"passes its gates but for {accepted}, which a person accepted," if accepted else "passes every gate"
    return f"{kept.name} {gates} and was written to the repository{written}"


def tiles(evidence: Evidence) -> dict[str, object]:
    """Name and value of each key figure that is known."""
    kept = evidence.kept
    found = _metric(evidence.reference, "PyTorch") if evidence.reference else {}
    if kept:
        found |= _metric(kept.answered, kept.name) | _figures(kept, evidence.candidates[0])
    route = chosen(evidence)
    if route:
        found["ONNX opset"] = (route.opset, f"IR {route.ir}")
    if kept:
        found["needs of a CPU"] = ", ".join(kept.graphed.needs) or "nothing"
    return found


def chosen(evidence: Evidence) -> Route | None:
    """The route by which the graph in the bundle was made, where that is known."""
    kept = evidence.kept
    quantized = kept is not None and kept is not evidence.candidates[0]
    wanted = evidence.quantized_route if quantized else evidence.served_route
    return next((route for route in evidence.routes if route.name == wanted), None)


def _accepted(evidence: Evidence) -> dict[str, str]:
    """The reasons for which the graph was kept in spite of gates, by gate."""
    return {found.gate: found.accepted for found in (evidence.kept.verdicts if evidence.kept else ()) if found.accepted}


def _metric(answered: Answered, whose: str) -> dict[str, object]:
    low, high = answered.interval
    return {f"{answered.metric} of {whose}": (f"{answered.value:.4f}", f"{low:.4f} to {high:.4f}")}


def _figures(kept: Candidate, floats: Candidate) -> dict[str, object]:
    measured, speedup = kept.measured, kept.measured.speedup
    before = f"of {floats.size / 1e6:.1f} MB in fp32" if kept is not floats else ""
    return {
        "labels as PyTorch": f"{100 * kept.answered.agreement:.2f} %",
        "size": (f"{kept.size / 1e6:.1f} MB", before),
        **({"speed": (f"{speedup.ratio:.2f} ×", f"{speedup.low:.2f} to {speedup.high:.2f} × fp32")} if speedup else {}),
        "rows a second": (f"{measured.rows_per_second:,.0f}", "all cores busy"),
        "one row alone": (f"{measured.p50_ms:.1f} ms", f"p99 {measured.p99_ms:.1f} ms"),
        "memory": (f"{measured.memory / 1e6:,.0f} MB", "of the process that serves"),
    }
