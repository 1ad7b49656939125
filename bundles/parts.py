"""A bundle by its parts: what each of them weighs, and nested names as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from serving.bundle import ASSETS, GOLDEN
from serving.manifest import MANIFEST, Manifest

# A bundle by what is in it; the rest is the manifest, what people read, and what Triton alone reads.
PARTS = ("graph", "assets", "golden", "rest")


def sizes(manifest: Manifest, folder: Path) -> dict[str, int]:
    """Bytes of a version directory by part."""
    found = dict.fromkeys(PARTS, 0)
    for name in (MANIFEST, *manifest.files):
        found[part_of(manifest, name)] += (folder / name).stat().st_size
    return found


def part_of(manifest: Manifest, name: str) -> str:
    """Which part of a bundle a file belongs to; weights beside a graph begin with its name."""
    if name.startswith(f"{ASSETS}/"):
        return "assets"
    if name == GOLDEN:
        return "golden"
    return "graph" if name.startswith(tuple(manifest.graphs.values())) else "rest"


def size(manifest: Manifest, folder: Path) -> str:
    """The size of a version directory, for people."""
    return in_bytes(sum(sizes(manifest, folder).values()))


def in_bytes(count: int) -> str:
    """A number of bytes, for people: ``23.5 MB``."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names; what else is nested stays as it is."""
    return dict(_leaves(value, prefix))


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item
