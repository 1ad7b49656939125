"""Chapter: what every gate asks, and what it found of every graph."""

from __future__ import annotations

from export.evidence import Candidate, Evidence
from export.gates.case import Verdict
from export.judging import GATES
from reporting.page import Block, Toned, table, text, verdict

HEADING = "Gates"
NOTE = "What a graph must show before it may serve. An exit code is that of the command when the gate fails."


def blocks(evidence: Evidence) -> list[Block]:
    """The sentences of the graph that was kept or came nearest, then all graphs and gates as a table of marks."""
    kept = evidence.kept
    if kept is None:
        asked = [[gate.NAME, gate.QUESTION, gate.CODE] for gate in GATES]
        return [text("No graph came as far as the gates."), table(["gate", "asks", "exit code"], asked, numeric=[2])]
    return [*(_told(found) for found in kept.verdicts), _marks(evidence.candidates)]


def _told(found: Verdict) -> Block:
    gate = next(gate for gate in GATES if found.gate == gate.NAME)
    note = f"Asks: {gate.QUESTION} Exit code {gate.CODE}."
    return verdict(found.passed, found.message, name=found.gate, accepted=found.accepted, note=note)


def _marks(candidates: list[Candidate]) -> Block:
    rows = []
    for candidate in candidates:
        found = {verdict.gate: verdict for verdict in candidate.verdicts}
        name = Toned(candidate.name, "strong" if candidate.kept else "name")
        rows.append([name, *(_mark(found.get(gate.NAME)) for gate in GATES)])
    return table(["graph", *(gate.NAME for gate in GATES)], rows)


def _mark(found: Verdict | None) -> Toned:
    if found is None:
        return Toned("not judged", "soft")
    if found.passed:
        return Toned("✓", "good")
    return Toned("accepted", "warn") if found.accepted else Toned("✗ failed", "bad")
