"""What differs between two versions, in the order in which it matters to those who ask them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from rich.console import Console

from bundles.console import columns, heading
from bundles.description import interface
from bundles.record import flat, in_bytes, part_of, record, sizes
from serving.bundle import ASSETS, GOLDEN, Bundle, open_bundle
from serving.modality.text import TOKENIZER

# What a part that differs means; the first one that does is the sentence of the whole.
PARTS = {
    "interface": "The two do not take and give the same: clients have to change.",
    "labels": "Labels were added, removed or moved: clients that read positions read other classes.",
    "tokenizer": "The tokenizer changed: the same text gives other tokens.",
    "assets": "What prepares and reads rows changed, as the assets have it.",
    "serving": "It is served in another way, by precision, backend or batches.",
    "base": "The base model is another one.",
    "data": "The rows it learnt from are other ones.",
    "recipe": "The recipe changed.",
    "gates": "The gates came out otherwise.",
    "metrics": "The figures of its quality differ, and did not fall below their interval.",
    "tolerance": "Golden rows may differ by another amount.",
    "graph": "The graph is another one, of the same recipe, data and base.",
    "operators": "The graph has other operators.",
    "size": "It has another size.",
    "speed": "It was measured at another speed.",
    "packages": "It was made by other versions of packages.",
    "golden": "Other rows prove it.",
    "source": "It was made at another time or place.",
}
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
    before, after = _facts(open_bundle(first)), _facts(open_bundle(second))
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
            "what": difference.name,
            names[0]: _told(difference.part, difference.before),
            names[1]: _told(difference.part, difference.after),
            "change": _change(difference.before, difference.after),
        }
        for difference in comparison.differences
    ]
    columns(console, f"{names[0]} -> {names[1]}", rows)


def _facts(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Everything that is compared, by part and name."""
    manifest, kept = bundle.manifest, record(bundle.manifest)
    facts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    task = bundle.open_task()
    told = interface(task)
    facts["interface"] = {"task": manifest.task}
    for side in ("inputs", "outputs"):
        facts["interface"] |= {f"{side}.{field['name']}": field["type"] for field in told[side]}
    facts["labels"] = {
        label if axis == "labels" else f"{axis}.{label}": place
        for axis, labels in task.axes.items()
        for place, label in enumerate(labels)
    }
    for name, digest in manifest.files.items():
        facts[_part_of_file(bundle, name)][name] = digest
    facts["serving"] = {
        "precision": manifest.precision,
        "backend": manifest.backend,
        "max_batch_size": manifest.max_batch_size,
        "batch_invariant": manifest.batch_invariant,
        **flat({"needs": kept.needs, "licence": kept.licence}),
    }
    for name, value in flat(manifest.quality.get(manifest.precision, {})).items():
        facts[_part_of_figure(name)][name] = value
    for name, value in flat(manifest.source).items():
        facts[_part_of_source(name)][name] = value
    facts["source"] |= flat({"host": kept.host})
    for gate in kept.gates:
        facts["gates"][str(gate.get("gate"))] = gate.get("accepted") or ("passed" if gate.get("passed") else "failed")
    facts["tolerance"] = dict(manifest.tolerance)
    # Without the rest: the manifest says what is compared here already.
    facts["size"] = {part: count for part, count in sizes(manifest, bundle.folder).items() if part != "rest"}
    return facts


def _part_of_file(bundle: Bundle, name: str) -> str:
    if name == GOLDEN:
        return "golden"
    if name == f"{ASSETS}/{TOKENIZER}":
        return "tokenizer"
    return "graph" if part_of(bundle.manifest, name) == "graph" else "assets"


def _part_of_figure(name: str) -> str:
    """``bytes`` is left to the size on disk; operator counts are told where an exporter recorded them."""
    if "operators" in name.split("."):
        return "operators"
    if name == "bytes":
        return "size"
    return "speed" if name.endswith(("_ms", "_per_second")) else "metrics"


def _part_of_source(name: str) -> str:
    first = name.partition(".")[0]
    if first in ("versions", "packages"):
        return "packages"
    known = (part for part in ("base", "data", "recipe") if first.startswith(part))
    return next(known, "source")


def _sentence(differences: Sequence[Difference], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What matters most."""
    if not differences:
        return "The two are equal."
    part = differences[0].part
    if part == "labels":
        return _labels([difference for difference in differences if difference.part == part])
    if part == "interface":
        return PARTS[part]
    return _fall(before, after) or PARTS[part]


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
    if isinstance(was, Real) and isinstance(now, Real) and interval and now < interval[0]:
        low, high = interval
        return f"{metric} fell from {was} to {now}, below the interval [{low}, {high}] of the first."
    return ""


def _told(part: str, value: Any) -> Any:
    if value is None:
        return "-"
    if part == "size":
        return in_bytes(value)
    text = str(value)
    # Of a digest its beginning tells that it is another one.
    return f"{text[:19]}..." if text.startswith("sha256:") or (len(text) == 64 and text.isalnum()) else value


def _change(before: Any, after: Any) -> str:
    numbers = [value for value in (before, after) if isinstance(value, Real) and not isinstance(value, bool)]
    if len(numbers) < 2 or not before:
        return "added" if before is None else "removed" if after is None else ""
    return f"{float(after) / float(before) - 1:+.1%}"
