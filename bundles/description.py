"""What a version is, for people: where it came from, what it passed, what it takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from bundles.console import columns, heading, pairs
from bundles.record import flat, in_bytes, record, sizes
from serving.bundle import open_bundle
from serving.tasks import Task
from serving.tensors import Field


def describe(folder: Path) -> dict[str, Any]:
    """All there is to tell of a version directory, as JSON has it. Raises BundleError where it is damaged."""
    bundle = open_bundle(folder)
    manifest, kept = bundle.manifest, record(bundle.manifest)
    parts = sizes(manifest, folder)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "precision": manifest.precision,
        "backend": manifest.backend,
        "digest": kept.digest,
        "bytes": {"all": sum(parts.values()), **parts},
        "max_batch_size": manifest.max_batch_size,
        "batch_invariant": manifest.batch_invariant,
        "tolerance": dict(manifest.tolerance),
        "licence": kept.licence,
        "needs": kept.needs,
        "host": kept.host,
        "source": dict(manifest.source),
        "gates": [dict(gate) for gate in kept.gates],
        "quality": dict(manifest.quality),
        **interface(bundle.open_task()),
    }


def interface(task: Task) -> dict[str, Any]:
    """What a task takes and gives, and the names along its axes."""
    return {
        "inputs": [_field(field) for field in task.inputs],
        "outputs": [_field(field) for field in task.outputs],
        "axes": {axis: list(names) for axis, names in task.axes.items()},
    }


def show(console: Console, told: Mapping[str, Any]) -> None:
    """Print what describe gave."""
    heading(console, f"{told['name']}/{told['version']}: {told['task']}, {told['precision']}, {told['backend']}")
    pairs(console, "what it is", _identity(told))
    pairs(console, "where it came from", flat(told["source"]))
    pairs(console, "where it was measured, and what it needs", _flat(host=told["host"], needs=told["needs"]))
    columns(console, "gates", [_gate(gate) for gate in told["gates"]])
    columns(console, "candidates (* is this one)", _candidates(told))
    columns(console, "takes", told["inputs"])
    columns(console, "gives", told["outputs"])
    pairs(console, "names", {axis: ", ".join(names) for axis, names in told["axes"].items()})


def _identity(told: Mapping[str, Any]) -> dict[str, Any]:
    parts = ", ".join(f"{part} {in_bytes(count)}" for part, count in told["bytes"].items() if part != "all")
    return {
        "digest": told["digest"],
        "size": f"{in_bytes(told['bytes']['all'])}: {parts}",
        "rows of a request": f"{told['max_batch_size']} at most",
        "rows of a batch": "do not change one another" if told["batch_invariant"] else "change one another: run singly",
        "golden rows may differ by": ", ".join(f"{name} {most:.4g}" for name, most in told["tolerance"].items()),
        **_flat(licence=told["licence"]),
    }


def _flat(**values: Any) -> dict[str, Any]:
    """Fields that a manifest may have, mappings or single values; none of those that it has not."""
    return {name: value for name, value in flat(values).items() if value not in (None, "", [], ())}


def _gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    figures = flat(gate.get("figures") or {})
    return {
        "gate": gate.get("gate"),
        "passed": "yes" if gate.get("passed") else "accepted" if gate.get("accepted") else "no",
        "what was found": gate.get("message"),
        "figures": ", ".join(f"{name} {value}" for name, value in figures.items()),
        "accepted because": gate.get("accepted"),
    }


def _candidates(told: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for name, figures in told["quality"].items():
        known = {key: value for key, value in figures.items() if not isinstance(value, Mapping)}
        if known.get("bytes") is not None:
            known = {**known, "bytes": in_bytes(known["bytes"])}
        yield {"candidate": f"{name} *" if name == told["precision"] else name, **known}


def _field(field: Field) -> dict[str, Any]:
    shape = f"[{', '.join(map(str, field.shape))}]" if field.shape else ""
    return {
        "name": field.name,
        "type": field.dtype + shape,
        "optional": "yes" if field.optional else "no",
        "meaning": field.doc,
    }
