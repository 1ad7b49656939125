"""Downstream tasks, one file each; a task is found by its name and there is no registry to edit."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self, cast

from serving.errors import NotFound
from serving.tensors import Field, Graph, Row, Tensors


class Task(Protocol):
    """What one downstream task declares; training, export and both servers are driven by it.

    ``inputs``, ``targets`` and ``outputs`` are the columns of a request, of a dataset beside them, and of a response.
    ``axes`` names the coordinates of symbolic axes whose size the assets fix (the labels, say).
    ``max_sizes`` bounds the other symbolic axes (tokens per row). ``temperature`` divides the logits before they become
    probabilities; None for a task that gives none.
    """

    auto_class: str
    inputs: tuple[Field, ...]
    targets: tuple[Field, ...]
    outputs: tuple[Field, ...]
    example: Row
    graphs: Mapping[str, Graph]
    axes: Mapping[str, Sequence[str]]
    max_sizes: Mapping[str, int]
    temperature: float | None

    @classmethod
    def learn(cls, rows: Sequence[Row]) -> Mapping[str, Any]:
        """JSON files of the assets that come from training rows, by file name (``labels.json``)."""

    @classmethod
    def open(cls, assets: Path) -> Self:
        """Read the assets of a checkpoint or a bundle. Raises BundleError when they are damaged."""

    def model_config(self) -> Mapping[str, Any]:
        """What the transformers config of a model with this task's head must say (``num_labels``, ...)."""

    def encode(self, row: Row) -> Tensors:
        """Preprocess one checked row; raises InvalidInput."""

    def decode(self, encoded: Tensors, outputs: Tensors) -> Row:
        """Postprocess one row's graph outputs."""

    def label(self, row: Row) -> Tensors:
        """A dataset row's targets as arrays, under the names the model's loss takes; raises InvalidInput."""

    def score(self, predicted: Sequence[Row], expected: Sequence[Row]) -> dict[str, Any]:
        """Metrics; the first one decides which checkpoint is best, and higher is better."""


def names() -> list[str]:
    """The names of all tasks, as a recipe and a manifest spell them."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Task]:
    """The task class of a name: ``text-classification`` is ``text_classification.TextClassification``.

    Raises NotFound that lists the known names.
    """
    if name not in names():
        raise NotFound(f"task: unknown task, got {name!r}; the tasks are {', '.join(names())}")
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return cast(type[Task], getattr(module, name.title().replace("-", "")))
