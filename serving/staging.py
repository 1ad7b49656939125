"""What a server may read is complete or absent: filled in a hidden folder beside its place, flushed, renamed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import model_config
from serving.bundle import flush
from serving.errors import BundleError


@contextmanager
def staged(model: Path, version: int) -> Iterator[Path]:
    """An empty folder inside a model directory that no server reads; it is gone at the end.

    What a killed writer left there is swept away. When the block fails, a model directory that is new goes with it.
    """
    existed = model.is_dir()
    staging = model / f".{version}.writing"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging if existed else model, ignore_errors=True)
        raise
    shutil.rmtree(staging, ignore_errors=True)


def publish(path: Path, final: Path) -> None:
    """Have the disk keep a staged file or folder, then give it its name in one step."""
    flush(path)
    path.rename(final)


def backend_in(model: Path) -> str | None:
    """The Triton backend of the model that is in a place; None where there is none, or its configuration is damaged."""
    try:
        config = model_config.parse(model)
    except BundleError:
        return None
    return str(config.backend or config.platform)
