"""A repository with one proven model, and a memory filesystem that is empty before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.serving.bundles import write_bundle


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def version(repository: Path) -> Path:
    """``repository/intent/1``, whose answers are right."""
    return write_bundle(repository)


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """What memory:// is, for one test."""
    filesystem = MemoryFileSystem()

    def empty() -> None:
        filesystem.store.clear()
        filesystem.pseudo_dirs[:] = [""]

    empty()
    yield filesystem
    empty()
