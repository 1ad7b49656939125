"""What differs between two versions, in the order in which it matters to those who ask them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from rich.console import Console

from bundles.console import cell, columns, heading
from bundles.description import interface
from bundles.parts import flat, in_bytes, part_of, sizes
from serving.bundle import ASSETS, GOLDEN, Bundle, read_bundle
from serving.calibration import TEMPERATURE
from serving.modality.text import TOKENIZER

# What a part that differs means; the first one that does is the sentence of the whole.
PARTS = {
    "interface": "The two do not take and give the same: clients have to change.",
    "labels": "Labels were added, removed or moved: clients that read positions read other classes.",
    "tokenizer": "The tokenizer changed: the same text gives other tokens.",
    "assets": "What prepares and reads rows changed, as the assets have it.",
    "serving": "It is served in another way.",
    "gates": "Gates came out otherwise.",
    "licence": "The licence is another one.",
    "base": "The base model is another one.",
    "data": "The rows it learnt from are other ones.",
    "recipe": "The recipe changed.",
    "weights": "It was trained again, by the same recipe, on the same data and base.",
    "metrics": "The figures of its quality differ, and did not fall below their interval.",
    "temperature": "Scores are sharper or flatter: thresholds on them cut elsewhere.",
    "tolerance": "Golden rows may differ by another amount.",
    "graph": "The graph is another one, of the same weights.",
    "operators": "The graph has other operators.",
    "size": "It has another size.",
    "speed": "It was measured at another speed.",
    "packages": "It was made by other versions of packages.",
    "golden": "Other rows or answers prove it.",
    "source": "It was made at another time or place, or by other code.",
}
# Parts of which the sentence says what differs: short values, each with a name of its own.
DETAILED = ("serving", "gates", "licence", "base", "recipe")
# The keys of a manifest's source by part; what is not here was made at another time or place.
SOURCES = {
    "base_model": "base",
    "base_revision": "base",
    "data_digest": "data",
    "recipe": "recipe",
    "checkpoint": "weights",
    "weights": "weights",
    "trained_with": "packages",
    "exported_with": "packages",
}
# Where a run was written to, and what is in the recipe already.
ELSEWHERE = {"recipe.output": "source", "seed": ""}
# Of a candidate: its size is that on disk, the gates say what came of it, and nobody asks how long it took to make.
UNCOMPARED = ("bytes", "verdict", "seconds_to_make")
SPEED = ("p50_ms", "p99_ms", "rows_per_second", "memory", "speedup")
# What an older checkpoint did not keep: no sentence is made of it.
UNKNOWN = "unknown"
# Parts whose numbers are more or less of something.
AMOUNTS = ("metrics", "temperature", "tolerance", "operators", "size", "speed")
SHOWN = 5


@dataclass(frozen=True)
class Difference:
    """One thing that differs; None where a version has no such thing."""

    part: str
    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Comparison:
    """All that differs, what matters most first, and that in one sentence."""

    sentence: str
    differences: Sequence[Difference]


def compare(first: Path, second: Path) -> Comparison:
    """Two version directories; their names and numbers do not count. Raises BundleError where one is damaged."""
    before, after = _facts(read_bundle(first)), _facts(read_bundle(second))
    differences = [
        Difference(part, name, before[part].get(name), after[part].get(name))
        for part in PARTS
        for name in dict.fromkeys((*before[part], *after[part]))
        if before[part].get(name) != after[part].get(name)
    ]
    return Comparison(_sentence(differences, before["metrics"], after["metrics"]), differences)


def show(console: Console, names: Sequence[str], comparison: Comparison) -> None:
    """Print a comparison; ``names`` are those of the two versions."""
    heading(console, comparison.sentence)
    rows = [
        {
            "part": difference.part,
            "what": _short(difference),
            names[0]: _told(difference, difference.before),
            names[1]: _told(difference, difference.after),
            "change": _change(difference),
        }
        for difference in comparison.differences
    ]
    columns(console, f"{names[0]} -> {names[1]}", rows)


def _facts(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Everything that is compared, by part and name."""
    manifest, task = bundle.manifest, bundle.open_task()
    facts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    told = interface(task)
    facts["interface"] = {"task": manifest.task}
    for side in ("inputs", "outputs"):
        facts["interface"] |= {f"{side}.{field['name']}": field["type"] for field in told[side]}
    facts["labels"] = {
        label if axis == "labels" else f"{axis}.{label}": place
        for axis, labels in task.axes.items()
        for place, label in enumerate(labels)
    }
    facts["serving"] = {
        "precision": manifest.precision,
        "backend": manifest.backend,
        "max_batch_size": manifest.max_batch_size,
        "batch_invariant": manifest.batch_invariant,
        "needs": list(manifest.needs),
    }
    facts["gates"] = {str(gate.get("gate")): _outcome(gate) for gate in manifest.gates}
    facts["licence"] = {"licence": manifest.licence}
    facts["temperature"] = {"temperature": task.temperature}
    facts["tolerance"] = dict(manifest.tolerance)
    # Without the rest: it is the manifest, which says what is compared here already, and what is for people.
    facts["size"] = {part: count for part, count in sizes(manifest, bundle.folder).items() if part != "rest"}
    for part, name, value in (*_files(bundle), *_figures(bundle), *_origin(bundle)):
        facts[part][name] = value
    return facts


def _outcome(gate: Mapping[str, Any]) -> str:
    if gate.get("passed") is True:
        return "passed"
    return f"accepted ({gate.get('accepted')})" if gate.get("accepted") else "failed"


def _files(bundle: Bundle) -> Iterator[tuple[str, str, Any]]:
    """Part, name and digest of every file that answers depend on and that no value here stands for."""
    for name, digest in bundle.manifest.files.items():
        if name == GOLDEN:
            yield "golden", name, digest
        elif name == f"{ASSETS}/{TOKENIZER}":
            yield "tokenizer", name, digest
        elif name != f"{ASSETS}/{TEMPERATURE}" and (part := part_of(bundle.manifest, name)) in ("assets", "graph"):
            yield part, name, digest


def _figures(bundle: Bundle) -> Iterator[tuple[str, str, Any]]:
    """Part, name and value of what was measured of the graph that the bundle has."""
    figures = bundle.manifest.quality.get(bundle.manifest.precision)
    for name, value in flat(figures if isinstance(figures, Mapping) else {}).items():
        if name not in UNCOMPARED:
            part = "operators" if name.startswith("operators.") else "speed" if name in SPEED else "metrics"
            yield part, name, value


def _origin(bundle: Bundle) -> Iterator[tuple[str, str, Any]]:
    """Part, name and value of where the bundle comes from."""
    for name, value in flat({**bundle.manifest.source, "host": bundle.manifest.host}).items():
        part = ELSEWHERE.get(name, SOURCES.get(name.partition(".")[0], "source"))
        if part:
            yield part, name, value


def _sentence(differences: Sequence[Difference], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What matters most."""
    if not differences:
        return "The two are equal."
    telling = [d for d in differences if UNKNOWN not in (d.before, d.after)] or differences
    part = telling[0].part
    if part == "labels":
        return _labels([difference for difference in telling if difference.part == part])
    if part == "interface":
        return PARTS[part]
    return _fall(before, after) or _detailed(part, [d for d in telling if d.part == part])


def _detailed(part: str, differences: Sequence[Difference]) -> str:
    if part not in DETAILED:
        return PARTS[part]
    changes = [f"{_short(d)} from {cell(d.before)} to {cell(d.after)}" for d in differences]
    return f"{PARTS[part].removesuffix('.')}: {', '.join(changes[:SHOWN])}{_more(changes)}."


def _labels(differences: Sequence[Difference]) -> str:
    moved = [d for d in differences if d.before is not None and d.after is not None]
    added, removed = ([d.name for d in differences if getattr(d, side) is None] for side in ("before", "after"))
    said = []
    if moved:
        places = ", ".join(f"{d.name} from {d.before} to {d.after}" for d in moved[:SHOWN])
        said.append(f"moved: {places}{_more(moved)}")
    said += [f"{what}: {', '.join(names[:SHOWN])}{_more(names)}" for what, names in
             (("removed", removed), ("added", added)) if names]  # fmt: skip
    return f"Labels {'; '.join(said)}: clients that read positions or these names read other classes."


def _more(items: Sequence[Any]) -> str:
    return f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""


def _fall(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """That the first metric fell below the interval of the first version, where it did."""
    metric, interval = next(iter(before), ""), before.get("interval")
    was, now = before.get(metric), after.get(metric)
    if not isinstance(interval, list) or len(interval) != 2 or not all(isinstance(bound, Real) for bound in interval):
        return ""
    low, high = interval
    if isinstance(was, Real) and isinstance(now, Real) and now < low:
        return f"{metric} fell from {was} to {now}, below the interval [{low}, {high}] of the first."
    return ""


def _told(difference: Difference, value: Any) -> Any:
    if value is None:
        return "-"
    if difference.part == "size" or difference.name == "memory":
        return in_bytes(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    # Of a digest its beginning tells that it is another one.
    return f"{text[:19]}..." if text.startswith("sha256:") or (len(text) == 64 and text.isalnum()) else value


def _short(difference: Difference) -> str:
    """The name of what differs without that of its part; in ``golden.jsonl`` it is no such prefix."""
    return difference.name if difference.part == "golden" else difference.name.removeprefix(f"{difference.part}.")


def _change(difference: Difference) -> str:
    before, after = difference.before, difference.after
    numbers = [value for value in (before, after) if isinstance(value, Real) and not isinstance(value, bool)]
    if len(numbers) < 2 or not before or difference.part not in AMOUNTS:
        return "added" if before is None else "removed" if after is None else ""
    return f"{float(after) / float(before) - 1:+.1%}"
