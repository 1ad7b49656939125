"""What a version is, for people: where it came from, what it passed, what it takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from rich.console import Console

from bundles.console import columns, heading, pairs
from bundles.parts import flat, in_bytes, sizes
from serving.bundle import read_bundle
from serving.tasks import Task
from serving.tensors import Field

RECIPE = "recipe"
# What a field holds that says nothing.
NOTHING: tuple[Any, ...] = (None, "", [], {})


def describe(folder: Path) -> dict[str, Any]:
    """All there is to tell of a version directory, as JSON has it. Raises BundleError where it is damaged."""
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    parts = sizes(manifest, folder)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "precision": manifest.precision,
        "backend": manifest.backend,
        "quarantined": bool(manifest.failed_gates),
        "digest": manifest.digest,
        "bytes": {"all": sum(parts.values()), **parts},
        "max_batch_size": manifest.max_batch_size,
        "batch_invariant": manifest.batch_invariant,
        "tolerance": dict(manifest.tolerance),
        "licence": manifest.licence,
        "needs": list(manifest.needs),
        "host": dict(manifest.host),
        "source": dict(manifest.source),
        "gates": [dict(gate) for gate in manifest.gates],
        "quality": {name: figures for name, figures in manifest.quality.items() if isinstance(figures, Mapping)},
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
    what = f"{told['name']}/{told['version']}: {told['task']}, {told['precision']}, {told['backend']}"
    heading(console, f"{what}; in quarantine" if told["quarantined"] else what)
    origin = {name: value for name, value in told["source"].items() if name not in (RECIPE, "seed")}
    pairs(console, "what it is", _identity(told))
    pairs(console, "where it came from", {**_lines(origin), **_lines({"measured on": told["host"]})})
    pairs(console, RECIPE, _lines(told["source"].get(RECIPE) or {}))
    columns(console, "gates", [_gate(gate) for gate in told["gates"]])
    columns(console, "candidates (* is this one)", _candidates(told))
    verdicts = {name: figures.get("verdict") for name, figures in told["quality"].items()}
    pairs(console, "what came of them", {name: verdict for name, verdict in verdicts.items() if verdict})
    columns(console, "takes", told["inputs"])
    columns(console, "gives", told["outputs"])
    pairs(console, "names", {axis: ", ".join(names) for axis, names in told["axes"].items()})


def _identity(told: Mapping[str, Any]) -> dict[str, Any]:
    parts = ", ".join(f"{part} {in_bytes(count)}" for part, count in told["bytes"].items() if part != "all")
    return {
        "digest": told["digest"],
        "size": f"{in_bytes(told['bytes']['all'])}: {parts}",
        "licence": told["licence"],
        "needs of a processor": ", ".join(told["needs"]) or "none",
        "rows of a request": f"{told['max_batch_size']} at most",
        "rows of a batch": "do not change one another" if told["batch_invariant"] else "change one another: run singly",
        "golden rows within": ", ".join(f"{name} {most:.4g}" for name, most in told["tolerance"].items()),
    }


def _lines(values: Mapping[str, Any]) -> dict[str, str]:
    """A line for each name, whatever is nested in it; none for what says nothing."""
    lines = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            leaves = [f"{leaf} {_plain(item)}" for leaf, item in flat(value).items() if item not in NOTHING]
            lines[name] = ", ".join(leaves)
        elif value not in NOTHING:
            lines[name] = _plain(value)
    return {name: line for name, line in lines.items() if line}


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    accepted = gate.get("accepted")
    mark = "ok" if gate.get("passed") is True else "accepted" if accepted else "FAILED"
    message = str(gate.get("message"))
    return {"": mark, "gate": gate.get("gate"), "found": f"{message}. Accepted: {accepted}" if accepted else message}


def _candidates(told: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The figures that people choose by; --json and the report beside the graph have them all."""
    for name, figures in told["quality"].items():
        metric, times = next(iter(figures), "metric"), [figures.get("p50_ms"), figures.get("p99_ms")]
        yield {
            "candidate": f"{name} *" if name == told["precision"] else name,
            metric: _rounded(figures.get(metric), 4),
            "interval": "-".join(f"{bound:.3f}" for bound in _numbers(figures.get("interval"))) or None,
            "size": _size(figures.get("bytes")),
            "p50/p99 ms": "/".join(f"{time:.2f}" for time in _numbers(times)) or None,
            "rows/s": _rounded(figures.get("rows_per_second"), 0),
            "memory": _size(figures.get("memory")),
            "speedup": next((f"{ratio:.2f}x" for ratio in _numbers(figures.get("speedup"))), None),
        }


def _numbers(values: Any) -> list[float]:
    return [value for value in values if isinstance(value, int | float)] if isinstance(values, list) else []


def _size(count: Any) -> str | None:
    return in_bytes(count) if isinstance(count, int) else None


def _rounded(value: Any, digits: int) -> str | None:
    return f"{value:.{digits}f}" if isinstance(value, Real) else None


def _field(field: Field) -> dict[str, Any]:
    shape = f"[{', '.join(map(str, field.shape))}]" if field.shape else ""
    return {
        "name": field.name,
        "type": field.dtype + shape,
        "optional": "yes" if field.optional else "no",
        "meaning": field.doc,
    }
