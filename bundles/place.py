"""What a path on the command line means: the version directories of a model, a repository or an archive."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundles import archive
from serving import model_config, staging
from serving.errors import NotFound
from serving.manifest import MANIFEST

VERSION = re.compile(r"[1-9][0-9]*")


@contextmanager
def versions(path: Path) -> Iterator[list[Path]]:
    """Every version directory of a path, oldest first; those of an archive are gone at the end.

    Raises NotFound where there is none, BundleError for an archive that is damaged or not safe.
    """
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="downstream-bundle-") as temporary:
            yield [archive.unpack(path, Path(temporary))]
    else:
        yield found(path)


@contextmanager
def newest(path: Path) -> Iterator[Path]:
    """The version directory that a path names: itself, that of an archive, or the newest of a model."""
    with versions(path) as folders:
        names = sorted({label(folder).rpartition("/")[0] for folder in folders})
        if len(names) > 1:
            raise NotFound(f"{path}: is a repository; name one of its models: {', '.join(names)}")
        yield folders[-1]


def found(path: Path) -> list[Path]:
    """The version directories of a folder on disk, by model and number. Raises NotFound where there is none."""
    if not path.is_dir():
        raise NotFound(f"{path}: no such file or folder; give a repository, a model directory, a version or an archive")
    path = path.resolve()
    if (path / MANIFEST).exists() or (VERSION.fullmatch(path.name) and (path.parent / model_config.FILE).exists()):
        return [path]
    folders = _of_model(path) or [folder for model in sorted(path.iterdir()) for folder in _of_model(model)]
    if not folders:
        raise NotFound(f"{path}: holds no version of a bundle; export a model first")
    return folders


def label(folder: Path) -> str:
    """``NAME/VERSION`` of a version directory."""
    return f"{folder.parent.name}/{folder.name}"


def _of_model(model: Path) -> list[Path]:
    """The versions of a model directory; none where it is hidden, or a model of another Triton backend."""
    if model.name.startswith(".") or not model.is_dir():
        return []
    if staging.backend_in(model) not in (None, "", model_config.BACKEND):
        return []
    configured = (model / model_config.FILE).exists()
    folders = [
        child
        for child in model.iterdir()
        if VERSION.fullmatch(child.name) and child.is_dir() and (configured or (child / MANIFEST).exists())
    ]
    return sorted(folders, key=lambda folder: int(folder.name))
