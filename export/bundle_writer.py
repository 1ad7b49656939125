"""A verified graph to a version directory: staged beside its place, proved once more, renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export import signing, triton_config
from serving.bundle import (
    ASSETS,
    GOLDEN,
    Bundle,
    GoldenRow,
    write_golden,
    write_manifest,
)
from serving.engine import Engine
from serving.errors import InvalidInput, fault
from serving.manifest import Manifest
from serving.model_config import BACKEND, NAME
from serving.settings import Settings
from serving.staging import backend_in, publish, staged
from serving.tasks import Task


def check_name(name: str) -> None:
    """Raise InvalidInput for a name that is no plain directory name."""
    if not NAME.fullmatch(name):
        raise InvalidInput(f"--name: {name!r} must be letters, digits, '.', '_' and '-', and begin with no sign")


def check_repository(repository: Path) -> None:
    """Raise InvalidInput, before any work, where no bundle could be written."""
    nearest = next(folder for folder in (repository, *repository.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InvalidInput(f"--repository: {nearest} is no folder that can be written to; give another")


def check_place(model: Path) -> None:
    """Raise InvalidInput, before any work, where a model of another Triton backend is in the way."""
    found = backend_in(model)
    if found not in (None, "", BACKEND):
        raise InvalidInput(fault("--name", f"{model} is a model of another Triton backend", found, "give another name"))


def next_version(*models: Path) -> int:
    """One more than the highest version there is in any of these model directories."""
    folders = [path for model in models for path in model.glob("[0-9]*") if path.is_dir() and path.name.isdigit()]
    return max((int(path.name) for path in folders), default=0) + 1


@dataclass(frozen=True)
class Contents:
    """What a version directory is filled with; ``texts`` are further files of it, by name, for people."""

    task: Task
    graphs: Mapping[str, Path]
    assets: Path
    golden: Sequence[GoldenRow]
    texts: Mapping[str, str] = field(default_factory=dict)


def write(repository: Path, manifest: Manifest, contents: Contents, private_key: Path | None = None) -> Path:
    """Write ``repository/NAME/VERSION`` and ``config.pbtxt``; the version directory.

    Everything is staged in a sibling that no server reads; golden rows are replayed from there, as a server would. With
    a ``private_key``, what has proved itself is signed. Raises BundleError when golden rows are not reproduced; then
    nothing is left behind.
    """
    model, task = repository / manifest.name, contents.task
    with staged(model, manifest.version) as staging:
        folder = staging / str(manifest.version)
        Engine.load(Bundle(folder, _fill(folder, manifest, contents)), Settings()).close()
        if private_key:
            signing.sign(folder, private_key)
        final = model / str(manifest.version)
        publish(folder, final)
    # Last: until it is there, no server takes the directory for a model.
    triton_config.write(model, triton_config.text(manifest.name, task, manifest.max_batch_size, manifest.version))
    return final


def quarantine(folder: Path, manifest: Manifest, contents: Contents) -> Path:
    """Write ``folder/NAME/VERSION`` without a ``config.pbtxt``, so that no server takes it for a model.

    The manifest says which gates failed, and a server refuses it for that too.
    """
    with staged(folder / manifest.name, manifest.version) as staging:
        version = staging / str(manifest.version)
        _fill(version, manifest, contents)
        final = folder / manifest.name / str(manifest.version)
        publish(version, final)
    return final


def _fill(folder: Path, manifest: Manifest, contents: Contents) -> Manifest:
    """Every file of a version directory, the manifest last; the manifest with their digests."""
    folder.mkdir()
    for name, path in contents.graphs.items():
        shutil.copyfile(path, folder / manifest.graphs[name])
    shutil.copytree(contents.assets, folder / ASSETS)
    write_golden(folder / GOLDEN, contents.golden)
    triton_config.write_names(folder, contents.task)
    for name, text in contents.texts.items():
        (folder / name).write_text(text, "utf-8")
    return write_manifest(folder, manifest)
