"""A verified graph to a version directory: staged beside its place, proved once more, renamed into it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from export import triton_config
from serving.bundle import (
    ASSETS,
    GOLDEN,
    MANIFEST,
    Bundle,
    GoldenRow,
    Manifest,
    digest_folder,
    write_golden,
    write_json,
)
from serving.engine import Engine
from serving.errors import InvalidInput, fault
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


def write(
    repository: Path,
    manifest: Manifest,
    graphs: dict[str, Path],
    assets: Path,
    golden: Sequence[GoldenRow],
    task: Task,
) -> Path:
    """Write ``repository/NAME/VERSION`` and ``config.pbtxt``; the version directory.

    Everything is staged in a sibling that no server reads; golden rows are replayed from there, as a server would.
    Raises BundleError when they are not reproduced; then nothing is left behind.
    """
    model = repository / manifest.name
    with staged(model, manifest.version) as staging:
        folder = staging / str(manifest.version)
        folder.mkdir()
        for name, path in graphs.items():
            shutil.copyfile(path, folder / manifest.graphs[name])
        shutil.copytree(assets, folder / ASSETS)
        write_golden(folder / GOLDEN, golden)
        triton_config.write_names(folder, task)
        complete = dataclasses.replace(manifest, files=digest_folder(folder))
        write_json(folder / MANIFEST, complete.to_json())
        Engine.load(Bundle(folder, complete), Settings()).close()
        final = model / str(manifest.version)
        publish(folder, final)
    # Last: until it is there, no server takes the directory for a model.
    triton_config.write(model, triton_config.text(manifest.name, task, manifest.max_batch_size, manifest.version))
    return final
