"""The checkpoint, first hand-off of the line: weights, assets, recipe, metrics, report; the manifest last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel

from finetune.faults import RecipeError
from finetune.recipe import Recipe
from serving.bundle import digest_folder, flush, verify_digests, write_json
from serving.errors import BundleError

MANIFEST = "checkpoint.json"
METRICS = "metrics.json"
RECIPE = "recipe.yaml"
DATA = "data.json"
REPORT = "report.html"
ASSETS = "assets"
MODEL = "model"
RESUMABLE = "trainer"
EVALUATION = "validation.jsonl"
CALIBRATION = "calibration.jsonl"
EXPORTED = "export"
STACK = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")


@dataclass(frozen=True)
class Checkpoint:
    """A finished training run on disk."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.manifest["task"])

    @property
    def assets(self) -> Path:
        """The folder that is copied unchanged into the bundle."""
        return self.folder / ASSETS

    def validation(self) -> list[dict[str, Any]]:
        """The validation rows, inputs and targets, that exported graphs are verified on."""
        return self._rows(EVALUATION)

    def calibration(self) -> list[dict[str, Any]]:
        """The training rows that a static INT8 graph is calibrated on; none in a checkpoint older than they are."""
        return self._rows(CALIBRATION) if CALIBRATION in self.manifest["files"] else []

    def _rows(self, name: str) -> list[dict[str, Any]]:
        # Line by line from the file: str.splitlines would also cut at the U+0085 and U+2028 that a text may hold.
        with (self.folder / name).open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint. Raises BundleError when it is absent, unfinished or damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        hint = " (training was interrupted: continue it with --resume)" if (folder / RESUMABLE).is_dir() else ""
        raise BundleError(f"{folder}: no {MANIFEST}, so this is not a finished checkpoint{hint}")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        files = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); the checkpoint is damaged: train it again") from error
    written = {path for part in (ASSETS, MODEL) for path in (folder / part).rglob("*") if path.is_file()}
    unproved = sorted({path.relative_to(folder).as_posix() for path in written} - files.keys())
    if unproved or not written:
        raise BundleError(f"{path}: has no digest of {', '.join(unproved) or 'the weights'}; train it again")
    verify_digests(folder, files)
    return Checkpoint(folder, manifest)


def prepare_folder(recipe: Recipe, data: str, *, resume: bool, overwrite: bool) -> Path:
    """The output folder, ready for this run; ``data`` is the digest of its rows.

    Raises RecipeError when a finished or interrupted run, or anything that is no run, is in the way, or when
    ``--resume`` finds a different recipe or other data.
    """
    folder = Path(recipe.output)
    blocking = next((path for path in (folder, *folder.parents) if path.is_file()), None)
    if blocking is not None:
        raise RecipeError(f"{folder}: {blocking} is a file and no folder; give another output=...")
    is_run = any((folder / name).exists() for name in (DATA, MANIFEST, RESUMABLE))
    if folder.exists() and not is_run and any(folder.iterdir()):
        raise RecipeError(f"{folder}: is in use and is no training run; give a new or an empty folder as output=...")
    finished, interrupted = (folder / MANIFEST).exists(), (folder / RESUMABLE).is_dir()
    if resume:
        if finished:
            raise RecipeError(f"{folder}: this run is finished, there is nothing to resume")
        if not interrupted:
            raise RecipeError(f"{folder}: no interrupted run to resume; start it without --resume")
        _same_run(recipe, data, folder)
        return folder
    if (finished or interrupted) and not overwrite:
        state = "a finished checkpoint" if finished else "an interrupted run (continue it with --resume)"
        raise RecipeError(f"{folder}: holds {state}; give another output=..., or --overwrite to replace it")
    _remove_run(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECIPE).write_text(resolved(recipe), "utf-8")
        write_json(folder / DATA, {"digest": data})
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be written ({error.strerror}); give another output=...") from error
    return folder


def _remove_run(folder: Path) -> None:
    """Remove what a run writes, and nothing else that stands there. The manifest first: the rest is no checkpoint."""
    for name in (MANIFEST, METRICS, RECIPE, DATA, REPORT, EVALUATION, CALIBRATION):
        (folder / name).unlink(missing_ok=True)
    for name in (ASSETS, MODEL, RESUMABLE, EXPORTED):
        shutil.rmtree(folder / name, ignore_errors=True)


def resolved(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out."""
    return yaml.safe_dump(recipe.model_dump(), sort_keys=False, allow_unicode=True)


def _same_run(recipe: Recipe, data: str, folder: Path) -> None:
    before = yaml.safe_load((folder / RECIPE).read_text("utf-8"))
    now = recipe.model_dump()
    changed = [key for key in now if now[key] != before.get(key)]
    if changed:
        raise RecipeError(
            f"{folder / RECIPE}: the interrupted run had another recipe; what differs is in {', '.join(changed)}. "
            "Resume with the same recipe and overrides, or start anew with --overwrite"
        )
    if json.loads((folder / DATA).read_text("utf-8"))["digest"] != data:
        raise RecipeError(
            f"{folder}: the rows of the data have changed since the run was interrupted, so it cannot go on with them. "
            "Resume with the rows as they were, or start anew with --overwrite"
        )


def latest_resumable(folder: Path) -> Path | None:
    """The newest checkpoint of the Trainer in a run folder."""
    found = sorted((folder / RESUMABLE).glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return found[-1] if found else None


def finish(folder: Path, recipe: Recipe, model: PreTrainedModel, source: Mapping[str, Any]) -> Checkpoint:
    """Write the weights (safetensors), then the manifest with the digest of every file; drop the resumable state."""
    model.save_pretrained(folder / MODEL)
    flush(folder)
    shutil.rmtree(folder / RESUMABLE, ignore_errors=True)
    manifest = {
        "format": 1,
        "task": recipe.task,
        "seed": recipe.seed,
        **source,
        "versions": {name: version(name) for name in STACK},
        "files": digest_folder(folder),
    }
    write_json(folder / MANIFEST, manifest)
    return Checkpoint(folder, manifest)
