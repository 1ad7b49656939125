"""The bundle: a Triton model directory that proves itself. Artefacts are complete or absent, and carry digests.

Layout, under ``<name>/``: ``config.pbtxt`` and ``<version>/`` with ``manifest.json`` (written last), the graphs,
``assets/`` and ``golden.jsonl``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import BundleError
from serving.manifest import MANIFEST, SIGNATURE, Manifest
from serving.tasks import Task, find
from serving.tensors import Row

GOLDEN = "golden.jsonl"
ASSETS = "assets"


@dataclass(frozen=True)
class Bundle:
    """One version of one model on disk, its digests verified."""

    folder: Path
    manifest: Manifest

    def open_task(self) -> Task:
        """The task with this bundle's assets. Raises NotFound or BundleError."""
        return find(self.manifest.task).open(self.folder / ASSETS)

    def graph_files(self) -> dict[str, Path]:
        """The path of every graph by its name in the task."""
        return {name: self.folder / file for name, file in self.manifest.graphs.items()}

    def golden(self) -> list[GoldenRow]:
        """The rows that were answered by the PyTorch checkpoint at export."""
        # Line by line from the file: str.splitlines would also cut at the U+0085 and U+2028 that a text may hold.
        with (self.folder / GOLDEN).open(encoding="utf-8") as lines:
            return [GoldenRow(**json.loads(line)) for line in lines]


@dataclass(frozen=True)
class GoldenRow:
    """A request row and the answer that the PyTorch checkpoint gave."""

    row: Row
    answer: Row


def open_bundle(folder: Path) -> Bundle:
    """A version directory that may serve: as read_bundle, and no gate refused it. Raises BundleError."""
    bundle = read_bundle(folder)
    try:
        bundle.manifest.check_gates()
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error
    return bundle


def read_bundle(folder: Path) -> Bundle:
    """Read a version directory, whatever its gates said, and check the digest of every file. Raises BundleError."""
    path = folder / MANIFEST
    try:
        manifest = Manifest.from_json(json.loads(path.read_text("utf-8")))
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); the bundle is incomplete: export it again") from error
    outside = [
        n for n in (*manifest.graphs.values(), *manifest.files) if Path(n).is_absolute() or ".." in Path(n).parts
    ]
    if outside:
        raise BundleError(f"{path}: names {outside[0]!r}, which is outside the version directory; export it again")
    # All there is, not only what is read by name: a graph may name further files itself.
    unproved = sorted({*manifest.graphs.values(), GOLDEN, *_names(folder)} - manifest.files.keys())
    if unproved or not manifest.tolerance:
        what = f"no digest of {', '.join(unproved)}" if unproved else "no tolerance for golden answers"
        raise BundleError(f"{path}: has {what}, so nothing proves the version; export it again")
    verify_digests(folder, manifest.files)
    return Bundle(folder, manifest)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest.json`` with the digests of all files that are there, and its own; the manifest as written."""
    complete = dataclasses.replace(manifest, files={name: _digest(folder / name) for name in _names(folder)}).sealed()
    write_json(folder / MANIFEST, complete.to_json())
    return complete


def _names(folder: Path) -> list[str]:
    """Every file that a manifest vouches for, by relative path."""
    found = [Path(at, name).relative_to(folder) for at, _, names in os.walk(folder, followlinks=True) for name in names]
    return sorted({path.as_posix() for path in found} - {MANIFEST, SIGNATURE})


def write_golden(path: Path, rows: Sequence[GoldenRow]) -> None:
    """Write golden rows as JSON lines; arrays become lists."""
    with path.open("w", encoding="utf-8") as file:
        for golden in rows:
            file.write(json.dumps({"row": dict(golden.row), "answer": plain(golden.answer)}, ensure_ascii=False) + "\n")


def differences(answer: Row, golden: Row, tolerance: Mapping[str, float]) -> list[str]:
    """What of an answer is not as the golden one: one line per output outside its tolerance.

    Outputs without a tolerance (labels) are derived from those that have one and are not compared.
    """
    lines = []
    for name, allowed in tolerance.items():
        found, wanted = np.asarray(answer[name], np.float64), np.asarray(golden[name], np.float64)
        if found.shape != wanted.shape:
            lines.append(f"{name} has shape {list(found.shape)} instead of {list(wanted.shape)}")
            continue
        # Written so that NaN counts as a difference.
        largest = float(np.max(np.abs(found - wanted), initial=0.0))
        if not largest <= allowed:
            lines.append(f"{name} differs by {largest:.4g}, more than {allowed:.4g}")
    return lines


def plain(row: Row) -> dict[str, Any]:
    """A row with arrays and numpy scalars as JSON has them."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value for name, value in row.items()
    }


def digest_folder(folder: Path) -> dict[str, str]:
    """``sha256:...`` of every file below a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def verify_digests(folder: Path, files: Mapping[str, str]) -> None:
    """Raise BundleError that names every missing or changed file."""
    wrong = []
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif _digest(path) != expected:
            wrong.append(f"{name} was changed after it was written")
    if wrong:
        raise BundleError(f"{folder}: {'; '.join(wrong)}")


def flush(folder: Path) -> None:
    """Have the disk keep every file below a folder, and their names, before something says that they are there."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is whole or absent: temporary sibling, fsync, rename."""
    sibling = path.with_name(f".{path.name}.writing")
    with sibling.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    sibling.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
