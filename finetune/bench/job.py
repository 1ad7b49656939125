"""The work that every contender gets: one recipe of one epoch, on rows drawn from those of a given recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from finetune import dataset, recipe_file
from finetune.faults import Faults, RecipeError
from finetune.recipe import Recipe
from serving.modality.cleaning import Cleaning
from serving.tasks import find
from serving.tensors import Row

TASK = "text-classification"
VALIDATION_ROWS = 64


@dataclass(frozen=True)
class Job:
    """A recipe as a contender reads it, with its training rows (``text``, maybe ``text_pair``, and ``label``)."""

    recipe: Recipe
    rows: list[Row]

    @property
    def labels(self) -> list[str]:
        """The names of the classes, in the order of their numbers."""
        return sorted({str(row["label"]) for row in self.rows})

    def texts(self) -> tuple[list[str], list[str] | None]:
        """The texts of the rows, and the second ones where all rows have one."""
        pairs = [row["text_pair"] for row in self.rows if "text_pair" in row]
        return [row["text"] for row in self.rows], pairs if len(pairs) == len(self.rows) else None


def write(source: Path, overrides: Sequence[str], steps: int, rows: int, folder: Path) -> Path:
    """Write ``recipe.yaml`` and its rows: one epoch of ``steps`` steps of ``rows`` rows, from the recipe ``source``.

    Raises RecipeError when the recipe has faults, names no pretrained model, or has too few rows.
    """
    faults = Faults()
    recipe = recipe_file.read(source, overrides, faults)
    if recipe is None:
        faults.raise_any()
    assert recipe is not None
    if recipe.model.base is None or recipe.task != TASK:
        raise RecipeError(f"{source}: give a recipe of the task {TASK} with a pretrained model (model.base)")
    splits = dataset.load(recipe, find(recipe.task), faults)
    faults.raise_any()
    if len(splits.train) < steps * rows:
        raise RecipeError(
            f"{source}: has {len(splits.train)} training rows, {steps} steps of {rows} rows need {steps * rows}; "
            "give fewer with --steps or --rows"
        )
    drawn = Random(recipe.seed)
    train = [example.row for example in drawn.sample(splits.train, steps * rows)]
    known = {row["label"] for row in train}
    others = [example.row for example in splits.validation if example.row["label"] in known]
    cleaning = Cleaning(**recipe.cleaning.model_dump())
    files = {"train": train, "validation": drawn.sample(others, min(VALIDATION_ROWS, len(others)))}
    for name, content in files.items():
        _write_rows(folder / f"{name}.jsonl", content, cleaning)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(_one_epoch(recipe, rows, folder), sort_keys=False, allow_unicode=True), "utf-8")
    return path


def read(path: Path) -> Job:
    """The job that ``write`` wrote."""
    recipe = recipe_file.read(path, [], Faults())
    assert recipe is not None
    assert isinstance(recipe.data.train, str)
    with Path(recipe.data.train).open(encoding="utf-8") as lines:
        return Job(recipe, [json.loads(line) for line in lines])


def _write_rows(path: Path, rows: Sequence[Row], cleaning: Cleaning) -> None:
    """Cleaned already, so that every contender reads the same characters."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            texts = {name: cleaning(value) for name, value in row.items() if name != "label"}
            file.write(json.dumps({**texts, "label": row["label"]}, ensure_ascii=False) + "\n")


def _one_epoch(recipe: Recipe, rows: int, folder: Path) -> dict[str, Any]:
    """What all contenders can do alike: no smoothing, no accumulation, a linear schedule, clipping at 1."""
    values = recipe.model_dump()
    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "validation")}
    same = {
        "epochs": 1.0,
        "batch_rows": rows,
        "batch_tokens": None,
        "accumulate": 1,
        "schedule": "linear",
        "max_grad_norm": 1.0,
        "label_smoothing": 0.0,
        "evaluations": 1,
        "patience": None,
    }
    return {**values, "output": str(folder / "run"), "data": files, "training": {**values["training"], **same}}
