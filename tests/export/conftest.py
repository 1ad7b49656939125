"""A small checkpoint trained on pairs, exported once by the real exporter; other exports start from that graph."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before anything imports huggingface_hub, which reads it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from export import onnx_graph
from export.__main__ import main as export
from finetune.__main__ import main as finetune
from tests.finetune import toy
from tests.finetune.conftest import one_thread  # noqa: F401  (for the models of this folder too)

Export = Callable[..., int]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on pairs of texts. Read only."""
    folder = tmp_path_factory.mktemp("pairs")
    assert finetune([str(toy.prepare(folder, pairs=True))]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def fp32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version directory that ``--precision fp32`` wrote: nothing is simulated. Read only."""
    folder = tmp_path_factory.mktemp("exported")
    own = Path(shutil.copytree(checkpoint, folder / "toy"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the exporter's process
        assert export([str(own), "--precision", "fp32", "--repository", str(folder / "repository")]) == 0
    return folder / "repository" / "toy" / "1"


@pytest.fixture(scope="session")
def quickly(fp32: Path) -> Export:
    """``downstream export`` as it is, but for the exporter process, whose graph is there already."""

    def start(model: Path, auto_class: str, graph: Any, example: Any, target: Path) -> subprocess.Popen[str]:
        shutil.copyfile(fp32 / "model.onnx", target)
        return subprocess.Popen(["true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(*argv: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx_graph, "start", start)
            return export([str(word) for word in argv])

    return run


@pytest.fixture(scope="session")
def int8(checkpoint: Path, quickly: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version directory of the default precision; the report is in ``toy/export`` beside the repository."""
    folder = tmp_path_factory.mktemp("quantized")
    own = Path(shutil.copytree(checkpoint, folder / "toy"))
    assert quickly(own, "--repository", folder / "repository") == 0
    return folder / "repository" / "toy" / "1"


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to write into."""
    return Path(shutil.copytree(checkpoint, tmp_path / "toy"))
