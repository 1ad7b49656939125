"""The data of a recipe: read, checked as a whole, and split; every fault is told with file and line."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.faults import Faults, RecipeError
from finetune.recipe import Data, Recipe
from finetune.sources import Example, read_file, read_hub
from serving.errors import InvalidInput
from serving.modality.cleaning import Cleaning
from serving.tasks import Task
from serving.tensors import Field, check

EQUALIZE = Cleaning(unicode="NFKC", lowercase=True)


@dataclass(frozen=True)
class Splits:
    """The rows to learn from, to choose the checkpoint by, and to score once at the end (may be empty)."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def digest(self) -> str:
        """SHA-256 over all rows of all splits, in order: equal data has an equal digest, whatever its files."""
        sha = hashlib.sha256()
        for name, examples in self.named():
            sha.update(name.encode())
            for example in examples:
                sha.update(json.dumps(example.row, sort_keys=True, ensure_ascii=False).encode())
        return sha.hexdigest()

    def named(self) -> list[tuple[str, list[Example]]]:
        """The splits with their names, the empty ones too."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]


def load(recipe: Recipe, task: type[Task], faults: Faults) -> Splits:
    """Read, split and check all rows; every fault goes to ``faults``, and the splits are of use only without one."""
    data = recipe.data
    reader = _Reader(data, task, Cleaning(**recipe.cleaning.model_dump()), faults)
    reader.check_columns()
    splits = {
        name: reader.read(name, source)
        for name, source in (("train", data.train), ("validation", data.validation), ("test", data.test))
        if source is not None and not isinstance(source, float)
    }
    train, test = splits["train"], splits.get("test", [])
    if not train:
        return Splits([], [], [])
    if "validation" in splits:
        validation = splits["validation"]
    else:
        assert isinstance(data.validation, float)
        train, validation = hold_out(train, round(data.validation * len(train)), task, recipe.seed, kept=1)
    if data.limit is not None and data.limit < len(train):
        _, train = hold_out(train, data.limit, task, recipe.seed)
    _check_optional(train, {"validation": validation, "test": test}, task, faults)
    _check_labels(train, {"validation": validation, "test": test}, task, faults)
    if train and not validation and "validation" not in splits:
        faults.add_key(
            "data.validation", f"{data.validation} of {len(train)} rows is none; hold out more, or give a file"
        )
    return Splits(train, validation, test)


def hold_out(
    examples: Sequence[Example], count: int, task: type[Task], seed: int, kept: int = 0
) -> tuple[list[Example], list[Example]]:
    """Split into (rest, held out), stratified by the targets, the same for the same rows and seed.

    Equal rows stay on one side, so that no validation row was trained on; ``count`` rows are held out, or a few less
    where equal rows do not fit or a class would have less than ``kept`` rows left.
    """
    strata: dict[str, list[list[Example]]] = defaultdict(list)
    for group in _equal_inputs(examples, task):
        strata[json.dumps([group[0].row.get(field.name) for field in task.targets])].append(group)
    sizes = {key: sum(map(len, strata[key])) for key in sorted(strata)}
    wanted = {key: min(share, max(0, sizes[key] - kept)) for key, share in _apportioned(count, sizes).items()}
    generator = random.Random(seed)
    held: set[str] = set()
    for key, left in wanted.items():
        generator.shuffle(strata[key])
        for group in strata[key]:
            if len(group) <= left:
                held.update(example.place for example in group)
                left -= len(group)
    return [e for e in examples if e.place not in held], [e for e in examples if e.place in held]


def _apportioned(count: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """``count`` in proportion to the sizes, in whole numbers, by largest remainder (Hamilton's method)."""
    total = max(1, sum(sizes.values()))
    shares = {key: count * size // total for key, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda key: -(count * sizes[key] % total))
    for key in by_remainder[: min(count, total) - sum(shares.values())]:
        shares[key] += 1
    return shares


def _equal_inputs(examples: Iterable[Example], task: type[Task]) -> list[list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[_input_key(example, task)].append(example)
    return list(groups.values())


def _input_key(example: Example, task: type[Task]) -> str:
    """Equal for rows whose texts differ in white space, case or Unicode form only: to a model they are the same."""
    values = [example.row.get(field.name) for field in task.inputs]
    return json.dumps([EQUALIZE(value) if isinstance(value, str) else value for value in values])


def overlap(splits: Splits, task: type[Task]) -> dict[str, int]:
    """How many rows of each other split are also in train, up to white space, case and Unicode form."""
    known = {_input_key(example, task) for example in splits.train}
    return {
        name: sum(_input_key(example, task) in known for example in examples)
        for name, examples in splits.named()
        if name != "train"
    }


@dataclass(frozen=True)
class _Reader:
    """Reads one recipe's sources into checked examples; whatever is wrong goes to ``faults``."""

    data: Data
    task: type[Task]
    cleaning: Cleaning
    faults: Faults

    @property
    def fields(self) -> tuple[Field, ...]:
        return (*self.task.inputs, *self.task.targets)

    def column(self, field: Field) -> str:
        return self.data.columns.get(field.name, field.name)

    def check_columns(self) -> None:
        known = [field.name for field in self.fields]
        for name in self.data.columns:
            if name not in known:
                self.faults.add_key(
                    f"data.columns.{name}", f"the task has no such field; its fields are {', '.join(known)}"
                )

    def read(self, split: str, source: str | list[str]) -> list[Example]:
        before = len(self.faults)
        examples: list[Example] = []
        for name in [source] if isinstance(source, str) else source:
            try:
                examples += self._read_one(name)
            except RecipeError as error:
                self.faults.add_key("data.hub", str(error))
        if not examples and len(self.faults) == before:
            self.faults.add_key(f"data.{split}", f"has no rows, got {source!r}; give a file with at least one")
        return examples

    def _read_one(self, name: str) -> Iterator[Example]:
        hub = self.data.hub
        records = read_hub(hub, self.data.config, name) if hub else read_file(Path(name), self.faults)
        for index, (record, place) in enumerate(records):
            if index == 0 and not self._has_columns(record, place):
                return
            example = self._checked(record, place)
            if example is not None:
                yield example

    def _has_columns(self, record: Mapping[str, Any], place: str) -> bool:
        # An optional field is wanted once the recipe maps it by hand.
        missing = [
            field
            for field in self.fields
            if self.column(field) not in record and (not field.optional or field.name in self.data.columns)
        ]
        for field in missing:
            self.faults.add(
                place,
                f"no column {self.column(field)!r} for the field {field.name!r}; the columns are "
                f"{', '.join(map(str, record))}: name the right one as data.columns.{field.name}",
            )
        return not missing

    def _checked(self, record: Mapping[str, Any], place: str) -> Example | None:
        row = {field.name: record.get(self.column(field)) for field in self.fields}
        for field in self.task.targets:
            row[field.name] = self._label_name(row[field.name])
        try:
            checked = check({name: value for name, value in row.items() if value is not None}, self.fields)
        except InvalidInput as error:
            self.faults.add(place, str(error))
            return None
        empty = [f for f in self.fields if isinstance(v := checked.get(f.name), str) and not self.cleaning(v).strip()]
        for field in empty:
            self.faults.add(place, f"{self.column(field)}: is empty; remove the row or fill it")
        return None if empty else Example(checked, place)

    def _label_name(self, value: Any) -> Any:
        """Labels are names: whole numbers of a file become text, and ``data.labels`` gives texts their names."""
        if isinstance(value, int):
            value = str(value)
        return self.data.labels.get(value, value) if isinstance(value, str) else value


def _check_optional(
    train: Sequence[Example], others: Mapping[str, Sequence[Example]], task: type[Task], faults: Faults
) -> None:
    """An optional input that no training row has must be in no other row: the model would never have seen it."""
    for field in (field for field in task.inputs if field.optional):
        if any(field.name in example.row for example in train):
            continue
        for name, examples in others.items():
            for example in (example for example in examples if field.name in example.row):
                faults.add(example.place, f"{field.name}: is in {name} and in no row of train; leave it out of {name}")


def _check_labels(
    train: Sequence[Example], others: Mapping[str, Sequence[Example]], task: type[Task], faults: Faults
) -> None:
    for field in task.targets:
        if field.dtype != "BYTES" or field.shape:
            continue
        counts = Counter(example.row[field.name] for example in train)
        if len(counts) < 2 and train:
            faults.add_key(
                "data.train", f"{field.name}: only one value, {next(iter(counts))!r}; a classifier needs two"
            )
        for name, examples in others.items():
            for example in examples:
                if example.row[field.name] not in counts:
                    faults.add(
                        example.place,
                        f"{field.name}: {example.row[field.name]!r} is in {name} and not in train; "
                        f"the labels of train are {', '.join(sorted(counts))}",
                    )
