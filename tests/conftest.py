"""What holds for every test of the project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder instead of the user's caches, for servers in this process and in others."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOWNSTREAM_CACHE_DIR", str(folder))
        patch.setattr("serving.cost_file.folder", lambda cache_dir, environ: folder)
        yield folder
