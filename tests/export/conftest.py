"""A small checkpoint trained on pairs, exported once by the real exporter; other exports start from that graph."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

# Before anything imports huggingface_hub, which reads it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from export import measuring, routes, trial
from export.__main__ import main as export
from finetune.__main__ import main as finetune
from serving.tasks import find
from serving.tensors import check
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
def native(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as the exporter's process writes it: one FP32 graph, nothing fused. Read only."""
    folder = tmp_path_factory.mktemp("native")
    task = find("text-classification").open(checkpoint / "assets")
    (graph,) = task.graphs.values()
    example = task.encode(check(task.example, task.inputs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        process = routes.start(checkpoint / "model", task.auto_class, graph, example, folder, [routes.NATIVE])
        made = routes.finish(process, folder, [routes.NATIVE])[routes.NATIVE]
    assert isinstance(made, Path)
    return made


@pytest.fixture(scope="session")
def quickly(native: Path) -> Export:
    """``downstream export`` as it is, but for processes: the graph is there already, and it is measured in this one.

    A toy is faster in floats, so that its speed is accepted.
    """

    def start(
        model: Path, auto_class: str, graph: Any, example: Any, folder: Path, names: Sequence[str], device: str
    ) -> subprocess.Popen[str]:
        shutil.copyfile(native, folder / native.name)
        for name in names:
            if name != routes.NATIVE:
                (folder / f"{name}.failed").write_text("left out")
        return subprocess.Popen(["true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def measured_here(folder: str, name: str) -> tuple[int, str]:
        return measuring.main([folder, name]), ""

    def run(*argv: object, accept: Sequence[str] = ("speed=a toy",)) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(routes, "start", start)
            patch.setattr(trial, "measured_apart", measured_here)
            accepted = [word for reason in accept for word in ("--accept", reason)]
            return export([*(str(word) for word in argv), *accepted])

    return run


@pytest.fixture(scope="session")
def fp32(checkpoint: Path, quickly: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version directory that ``--precision fp32`` wrote. Read only."""
    folder = tmp_path_factory.mktemp("exported")
    own = Path(shutil.copytree(checkpoint, folder / "toy"))
    assert quickly(own, "--precision", "fp32", "--repository", folder / "repository") == 0
    return folder / "repository" / "toy" / "1"


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
