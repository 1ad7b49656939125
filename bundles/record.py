"""What a manifest tells, by name: also of one that is older than what it could tell today."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.bundle import ASSETS, GOLDEN, MANIFEST, Manifest

# A bundle by what is in it; the rest is the manifest, and what Triton alone reads.
PARTS = ("graph", "assets", "golden", "rest")


@dataclass(frozen=True)
class Record:
    """What manifests of format 2 hold beside those of format 1."""

    gates: Sequence[Mapping[str, Any]]
    licence: Any
    needs: Any
    host: Any
    digest: str


def record(manifest: Manifest) -> Record:
    """The fields of format 2, empty where a manifest has none; the digest is then made of those of the files."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(manifest.files.items()))
    return Record(
        gates=getattr(manifest, "gates", ()),
        licence=getattr(manifest, "licence", None),
        needs=getattr(manifest, "needs", None),
        host=getattr(manifest, "host", None),
        digest=getattr(manifest, "digest", "") or "sha256:" + hashlib.sha256(lines.encode()).hexdigest(),
    )


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
