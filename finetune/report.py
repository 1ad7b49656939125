"""The training report: one HTML page that says how good the checkpoint is and where it fails."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.recipe import Recipe
from reporting import charts
from reporting.page import Page, code, facts, figure, table
from serving.tasks import Task
from serving.tensors import Row

if TYPE_CHECKING:
    from finetune.training import EncodedRows

WORST = 25


def write(
    path: Path,
    recipe: Recipe,
    task: Task,
    metrics: Mapping[str, Any],
    encoded: Mapping[str, EncodedRows],
    predicted: Mapping[str, Sequence[Row]],
) -> None:
    """Write the page: key figures, curves, confusion matrix, figures per class, worst errors, label balance."""
    split = "test" if "test" in metrics else "validation"
    scores = metrics[split]
    page = Page(f"Training report: {Path(recipe.output).name}", f"{recipe.task}, scored on the {split} split")
    page.section("Result", facts(_key_figures(metrics, encoded, split)), note=_selection_note(split))
    page.section("Training", *_curves(metrics["training"]))
    if "confusion_matrix" in scores:
        matrix = scores["confusion_matrix"]
        page.section(
            "Confusion matrix",
            figure(charts.matrix(matrix["labels"], matrix["counts"]), "rows: true label, columns: predicted"),
        )
        page.section("Per class", _per_class(scores["per_class"]))
    page.section(
        f"Worst errors ({split})",
        _worst(task, encoded[split].rows, predicted[split]),
        note="Wrong answers the model is surest of: often label mistakes in the data.",
    )
    page.section("Data", *_balance(task, encoded))
    page.section("Recipe", code(_recipe_text(recipe)))
    page.write(path)


def _key_figures(metrics: Mapping[str, Any], encoded: Mapping[str, EncodedRows], split: str) -> dict[str, object]:
    figures: dict[str, object] = {
        name.replace("_", " "): value for name, value in metrics[split].items() if isinstance(value, float)
    }
    figures[f"{split} rows"] = len(encoded[split])
    figures["training rows"] = len(encoded["train"])
    figures["minutes"] = round(metrics["training"]["seconds"] / 60, 1)
    return figures


def _selection_note(split: str) -> str:
    if split == "test":
        return "The test split was scored once, after training."
    return "The checkpoint was chosen on this same split, so expect slightly less on new data."


def _curves(training: Mapping[str, Any]) -> list[Any]:
    train, validation = training["train"], training["validation"]
    blocks = []
    if train:
        epochs = [entry["epoch"] for entry in train]
        loss = {"training loss": (epochs, [_shown(entry["loss"]) for entry in train])}
        blocks.append(figure(charts.lines(loss, "epoch", "loss"), "Training loss"))
        rate = {"gradient norm": (epochs, [_shown(entry["grad_norm"]) for entry in train])}
        blocks.append(figure(charts.lines(rate, "epoch", "norm"), "Gradient norm"))
    names = [name for name in (validation[0] if validation else {}) if name not in ("epoch", "step")]
    if names:
        epochs = [entry["epoch"] for entry in validation]
        series = {name.replace("_", " "): (epochs, [entry[name] for entry in validation]) for name in names}
        blocks.append(figure(charts.lines(series, "epoch", "score"), "Validation scores"))
    return blocks


def _shown(value: float | None) -> float:
    return math.nan if value is None else value


def _per_class(per_class: Mapping[str, Mapping[str, Any]]) -> Any:
    rows = [[label, c["precision"], c["recall"], c["f1"], c["support"]] for label, c in per_class.items()]
    return table(["label", "precision", "recall", "F1", "rows"], rows, numeric=[1, 2, 3, 4])


def _worst(task: Task, rows: Sequence[Row], predicted: Sequence[Row]) -> Any:
    (target,) = [field.name for field in task.targets]
    wrong = [
        (float(answer["score"]), row, answer)
        for row, answer in zip(rows, predicted, strict=True)
        if answer[target] != row[target]
    ]
    wrong.sort(key=lambda item: -item[0])
    inputs = [field.name for field in task.inputs]
    body = [
        [" ⏐ ".join(str(row[name]) for name in inputs if name in row)[:300], row[target], answer[target], score]
        for score, row, answer in wrong[:WORST]
    ]
    return table(["text", "label", "predicted", "score"], body, numeric=[3])


def _balance(task: Task, encoded: Mapping[str, EncodedRows]) -> list[Any]:
    (target,) = [field.name for field in task.targets]
    counts = {name: Counter(row[target] for row in rows.rows) for name, rows in encoded.items() if len(rows)}
    labels = sorted(counts["train"], key=lambda label: -counts["train"][label])
    shares = {name: [100 * c[label] / c.total() for label in labels] for name, c in counts.items()}
    lengths = [len(next(iter(row.values()))) for row in encoded["train"].encoded]
    longest = task.max_sizes.get("length")
    cut = 100 * sum(length == longest for length in lengths) / len(lengths)
    return [
        figure(charts.bars(labels, shares, "% of the split"), "Label balance"),
        figure(charts.distribution(lengths, "tokens"), f"Tokens per row; {cut:.1f} % reach max_length ({longest})"),
    ]


def _recipe_text(recipe: Recipe) -> str:
    import yaml

    return yaml.safe_dump(recipe.model_dump(), sort_keys=False, allow_unicode=True)
