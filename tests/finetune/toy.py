"""A toy task that a model of one layer learns in two seconds: rows, files and a recipe."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

# The second label would break a page or a chart that does not escape it.
GOOD, BAD = "good", 'bad <i>&"'
WORDS = {
    GOOD: ["sun", "warm", "gold", "bright", "summer", "day", "glow"],
    BAD: ["rain", "cold", "dark", "storm", "grey", "night", "fog"],
}
FILLERS = ["the", "a", "was", "very", "it", "in", "on", "and", "of", "to"]


def rows(count: int, seed: int = 0, *, pairs: bool = False) -> list[dict[str, str]]:
    """Texts of 3 to 12 words, half of which tell the label."""
    generator = Random(seed)
    made = []
    for index in range(count):
        label = (GOOD, BAD)[index % 2]
        row = {"text": _text(generator, label)}
        if pairs:
            row["text_pair"] = _text(generator, label)
        made.append({**row, "label": label})
    return made


def _text(generator: Random, label: str) -> str:
    words = [generator.choice(WORDS[label])]
    for _ in range(generator.randint(2, 11)):
        words.append(generator.choice(WORDS[label] if generator.random() < 0.5 else FILLERS))
    generator.shuffle(words)
    return " ".join(words)


def write_csv(path: Path, content: Sequence[Mapping[str, str]], delimiter: str = ",") -> Path:
    """The rows with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(content[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(content)
    return path


def write_jsonl(path: Path, content: Sequence[Mapping[str, Any]]) -> Path:
    """One object a line, as ``json`` writes it by default: other signs than ASCII are escaped."""
    path.write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")
    return path


def recipe(folder: Path) -> dict[str, Any]:
    """The plain recipe of a tiny model on ``train.jsonl`` and ``validation.jsonl``; 3 epochs of 8 steps."""
    return {
        "task": "text-classification",
        "output": str(folder / "run"),
        "model": {"scratch": {"layers": 1, "hidden": 32, "heads": 2, "intermediate": 64, "dropout": 0.1}},
        "tokenizer": {"kind": "word", "vocab_size": 100},
        "data": {"train": str(folder / "train.jsonl"), "validation": str(folder / "validation.jsonl")},
        "max_length": 32,
        "training": {"epochs": 3, "batch_rows": 16, "learning_rate": 0.005, "precision": "fp32"},
    }


def write_recipe(folder: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """``recipe.yaml`` in the folder; ``changes`` replace its top-level keys."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe(folder), **(changes or {})}), "utf-8")
    return path


def prepare(
    folder: Path,
    *,
    pairs: bool = False,
    validation: Sequence[Mapping[str, str]] = (),
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Data files of 128 and 32 rows, and the recipe on them; ``validation`` are rows to add to that split."""
    write_jsonl(folder / "train.jsonl", rows(128, seed=1, pairs=pairs))
    write_jsonl(folder / "validation.jsonl", [*rows(32, seed=2, pairs=pairs), *validation])
    return write_recipe(folder, changes)
