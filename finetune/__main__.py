"""``downstream finetune``: a recipe and its data to a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedModel, set_seed
from transformers.utils.logging import disable_progress_bar

from finetune import assets, calibration, checkpoint, dataset, origin, recipe_file, report
from finetune.base_model import build
from finetune.faults import Faults, RecipeError
from finetune.prediction import predict
from finetune.progress import ProgressBar
from finetune.recipe import Recipe
from finetune.sources import Example
from finetune.stopwatch import Stages
from finetune.training import (
    EncodedRows,
    Interruption,
    TaskTrainer,
    build_trainer,
    limit_threads,
    resolve_precision,
    training_log,
)
from serving.bundle import write_json
from serving.errors import DownstreamError
from serving.tasks import Task, find
from serving.tensors import Row

FAULTY, INTERRUPTED = 2, 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    described = "\n".join(f"  {key:28} {text}" for key, text in recipe_file.known_keys().items())
    command = argparse.ArgumentParser(
        prog="downstream finetune",
        description="Fine-tune a pretrained model, or train one from scratch, as a recipe says.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""examples:
  downstream finetune finetune/recipes/tickets.yaml
  downstream finetune my.yaml training.epochs=2 data.train=more.csv output=runs/second
  downstream finetune my.yaml --resume             after Ctrl-C, a crash or a lost machine

exit codes: 0 finished, 2 the recipe or its data has faults (all are listed), 130 interrupted (resumable)

keys of a recipe:
{described}""",
    )
    command.add_argument("recipe", type=Path, help="YAML file; see finetune/recipes/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the recipe")
    command.add_argument("--resume", action="store_true", help="continue an interrupted run of the same recipe")
    command.add_argument("--overwrite", action="store_true", help="replace what is in the output folder")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_intermixed_args(argv)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of loading and saving weights: seconds, in the middle of our own bars
    try:
        return finetune(args.recipe, args.overrides, resume=args.resume, overwrite=args.overwrite)
    except (RecipeError, DownstreamError) as error:
        print(f"downstream finetune: {error}", file=sys.stderr)
        return FAULTY
    except KeyboardInterrupt:
        print("downstream finetune: interrupted", file=sys.stderr)
        return INTERRUPTED


def finetune(path: Path, overrides: Sequence[str], *, resume: bool, overwrite: bool) -> int:
    """The story of the stage: read and check everything, train, score, write the checkpoint."""
    stages = Stages()
    limit_threads()
    recipe, task_class, splits, base = _checked(path, overrides)
    data = splits.digest()
    folder = checkpoint.prepare_folder(recipe, data, resume=resume, overwrite=overwrite)
    stages.done("reading")
    config = assets.write(recipe, task_class, base, splits.train, folder / checkpoint.ASSETS)
    task = task_class.open(folder / checkpoint.ASSETS)
    encoded = {name: _encode(task, examples, name) for name, examples in splits.named()}
    stages.done("encoding")
    print(_outline(recipe, encoded))
    for name, count in dataset.overlap(splits, task_class).items():
        if count:
            print(f"warning: {count} of the {name} rows are also in train, so {name} scores flatter", file=sys.stderr)

    interruption = Interruption()
    trainer = build_trainer(
        recipe,
        task,
        build_seeded(task, base, config, recipe.seed),
        encoded["train"],
        encoded["validation"],
        folder / checkpoint.RESUMABLE,
        [ProgressBar(), interruption],
    )
    last = checkpoint.latest_resumable(folder)
    with interruption.armed():
        trainer.train(resume_from_checkpoint=str(last) if resume and last else None)
    stages.done("training")
    if interruption.requested:
        print(f"interrupted at step {trainer.state.global_step}; continue with the same command and --resume")
        return INTERRUPTED

    # Without accelerate's autocast: what is scored is what is saved and exported, in fp32.
    model = trainer.accelerator.unwrap_model(trainer.network, keep_fp32_wrapper=False)
    metrics, predicted = _score(model, task, encoded)
    stages.done("scoring")
    metrics["training"] = _course(trainer, stages, recipe)
    write_json(folder / checkpoint.METRICS, metrics)
    _write_rows(folder / checkpoint.EVALUATION, encoded["validation"].rows)
    train = encoded["train"]
    _write_rows(folder / checkpoint.CALIBRATION, calibration.choose(task, train.rows, train.encoded, recipe.seed))
    report.write(folder / checkpoint.REPORT, recipe, task, metrics, encoded, predicted)
    source = {
        "base_model": recipe.model.base or "scratch",
        **origin.of_base(base),
        "data_digest": data,
        "git_commit": origin.git_commit(Path.cwd()),
    }
    checkpoint.finish(folder, recipe, model, source)
    print(_closing(folder, metrics))
    if any(entry["loss"] is None for entry in metrics["training"]["train"]):
        print("warning: the loss was not finite at some steps: lower training.learning_rate", file=sys.stderr)
    return 0


def _checked(path: Path, overrides: Sequence[str]) -> tuple[Recipe, type[Task], dataset.Splits, Path | None]:
    faults = Faults()
    recipe = recipe_file.read(path, overrides, faults)
    if recipe is None:
        faults.raise_any()
    assert recipe is not None
    task_class = find(recipe.task)
    splits = dataset.load(recipe, task_class, faults)
    base = assets.check_base(recipe, faults)
    faults.raise_any()
    return recipe, task_class, splits, base


def build_seeded(task: Task, base: Path | None, config: Any, seed: int) -> Any:
    """The model with its new head drawn from the recipe's seed."""
    set_seed(seed)
    return build(task, base, config)


def _encode(task: Task, examples: Sequence[Example], name: str) -> EncodedRows:
    rows = [example.row for example in examples]
    encoded = [task.encode(row) for row in tqdm(rows, desc=f"encoding {name}", unit="row", leave=False)]
    arrays = [{**inputs, **task.label(row)} for inputs, row in zip(encoded, rows, strict=True)]
    return EncodedRows(rows, arrays, encoded)


def _score(
    model: PreTrainedModel, task: Task, encoded: dict[str, EncodedRows]
) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    metrics: dict[str, Any] = {}
    predicted: dict[str, list[Row]] = {}
    for name in ("validation", "test"):
        rows = encoded[name]
        if len(rows):
            with tqdm(total=len(rows), desc=f"scoring {name}", unit="row", leave=False) as bar:
                predicted[name] = predict(model, task, rows.encoded, bar.update)
            metrics[name] = task.score(predicted[name], rows.rows)
    return metrics, predicted


def _course(trainer: TaskTrainer, stages: Stages, recipe: Recipe) -> dict[str, Any]:
    """How the training went: time by stage, speed of the steps, losses and scores."""
    seconds, evaluating = stages.seconds, trainer.stopwatch.paused
    return {
        "seconds": round(sum(seconds.values()), 1),
        "stages": {
            **seconds,
            "training": round(seconds["training"] - evaluating, 3),
            "evaluating": round(evaluating, 3),
        },
        "speed": trainer.stopwatch.speed(),
        "steps": trainer.state.global_step,
        "precision": resolve_precision(recipe.training.precision),
        **training_log(trainer.state.log_history),
    }


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)


def _outline(recipe: Recipe, encoded: dict[str, EncodedRows]) -> str:
    counts = ", ".join(f"{len(rows):,} {name}" for name, rows in encoded.items() if len(rows))
    begins = recipe.model.base or "random weights"
    return f"{recipe.task} from {begins}: {counts} rows, {recipe.training.epochs:g} epochs -> {recipe.output}"


def _closing(folder: Path, metrics: dict[str, Any]) -> str:
    lines = []
    for split in ("validation", "test"):
        if split in metrics:
            shown = "  ".join(f"{k} {v:.4f}" for k, v in metrics[split].items() if isinstance(v, float))
            lines.append(f"{split}: {shown}")
    speed = metrics["training"]["speed"]
    if speed["tokens"]:
        padding = 1 - speed["tokens"] / speed["padded_tokens"]
        lines.append(f"training:   {speed['tokens'] / speed['seconds']:,.0f} tokens/s, {padding:.1%} padding")
    lines.append(f"report:     {folder / checkpoint.REPORT}")
    lines.append(f"next:       downstream export {folder} --to onnx --precision int8")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
