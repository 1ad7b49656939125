"""A recipe's data: checked as a whole, split by the seed, and the same for the same rows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import dataset
from finetune.dataset import Splits, hold_out
from finetune.faults import Faults, RecipeError
from finetune.recipe import Recipe
from finetune.sources import Example
from serving.tasks.text_classification import TextClassification
from tests.finetune import toy

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(changes: dict[str, Any] | None = None, **files: Rows) -> tuple[Splits, list[str]]:
    """Write each of ``files`` as ``NAME.jsonl``, load the data section ``changes`` on them; the faults."""
    for name, rows in files.items():
        toy.write_jsonl(Path(f"{name}.jsonl"), rows)
    values = {**toy.recipe(Path()), "data": {"train": "train.jsonl", **(changes or {})}}
    faults = Faults()
    splits = dataset.load(Recipe.model_validate(values), TextClassification, faults)
    try:
        faults.raise_any()
    except RecipeError as error:
        return splits, [line.strip() for line in str(error).splitlines()[1:]]
    return splits, []


def loaded(changes: dict[str, Any] | None = None, **files: Rows) -> Splits:
    splits, faults = load(changes, **files)
    assert not faults
    return splits


def texts(examples: list[Example]) -> list[str]:
    return [example.row["text"] for example in examples]


def numbered(count: int, labels: str = "abc") -> Rows:
    return [{"text": f"text {index}", "label": labels[index % len(labels)]} for index in range(count)]


# -- columns ----------------------------------------------------------------------------------------------------------


def test_columns_with_other_names_are_mapped() -> None:
    rows = [{"body": row["text"], "team": row["label"], "id": 5} for row in numbered(30)]
    splits = loaded({"columns": {"text": "body", "label": "team"}}, train=rows)
    assert splits.train[0].row.keys() == {"text", "label"}
    assert splits.train[0].row["text"].startswith("text ")


def test_a_missing_column_is_told_with_those_that_are_there_and_the_key_to_name_it() -> None:
    _, faults = load(train=[{"body": "a", "topic": "b"}] * 3)
    assert len(faults) == 2
    assert faults[0].startswith("train.jsonl:1: no column 'text' for the field 'text'")
    assert all("the columns are body, topic" in fault for fault in faults)
    assert "data.columns.text" in faults[0]
    assert "data.columns.label" in faults[1]


def test_a_mapped_field_that_the_task_does_not_have_is_told() -> None:
    _, faults = load({"columns": {"sentence": "text"}}, train=numbered(9))
    assert faults == [
        "recipe: data.columns.sentence: the task has no such field; its fields are text, text_pair, label"
    ]


def test_pairs_are_read_where_the_data_has_them() -> None:
    rows = [{**row, "text_pair": f"and {index}"} for index, row in enumerate(numbered(30))]
    assert all("text_pair" in example.row for example in loaded(train=rows).train)
    assert all("text_pair" not in example.row for example in loaded(train=numbered(30)).train)


def test_an_optional_column_is_wanted_once_it_is_mapped() -> None:
    _, faults = load({"columns": {"text_pair": "question"}}, train=numbered(9))
    assert len(faults) == 1
    assert "no column 'question' for the field 'text_pair'" in faults[0]


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [0, "0"])
def test_labels_get_their_names_whether_the_file_holds_numbers_or_texts(raw: object) -> None:
    rows = [{"text": f"t{index}", "label": raw if index % 2 else type(raw)(1)} for index in range(20)]
    splits = loaded({"labels": {"0": "negative", "1": "positive"}}, train=rows)
    assert {example.row["label"] for example in splits.train} == {"negative", "positive"}


def test_numbers_without_names_become_texts() -> None:
    splits = loaded(train=[{"text": f"t{index}", "label": index % 2} for index in range(20)])
    assert {example.row["label"] for example in splits.train} == {"0", "1"}


def test_a_label_that_training_never_saw_is_told_with_its_place() -> None:
    for split in ("validation", "test"):
        files = {"train": numbered(9), "validation": numbered(3), "test": numbered(3)}
        files[split] = [*files[split], {"text": "new", "label": "d"}]
        _, faults = load({"validation": "validation.jsonl", "test": "test.jsonl"}, **files)
        assert faults == [
            f"{split}.jsonl:4: label: 'd' is in {split} and not in train; the labels of train are a, b, c"
        ]


def test_a_single_label_is_nothing_to_learn() -> None:
    _, faults = load({"validation": "train.jsonl"}, train=numbered(9, "a"))
    assert faults == ["recipe: data.train: label: only one value, 'a'; a classifier needs two"]


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\u200b\x00", "\n\t"])
def test_a_text_that_cleaning_leaves_empty_is_told_with_its_place(text: str) -> None:
    _, faults = load(train=[*numbered(9), {"text": text, "label": "a"}])
    assert faults == ["train.jsonl:10: text: is empty; remove the row or fill it"]


def test_every_faulty_row_of_every_file_is_told_at_once() -> None:
    train = [*numbered(9), {"text": None, "label": "a"}, {"text": "x"}, {"text": ["x"], "label": "a"}]
    _, faults = load(
        {"train": ["train.jsonl", "none.csv"], "validation": "validation.jsonl"},
        train=train,
        validation=[*numbered(3), {"text": "", "label": "z"}],
    )
    assert [fault.split(": ")[0] for fault in faults] == [
        "train.jsonl:10", "train.jsonl:11", "train.jsonl:12", "none.csv", "validation.jsonl:4",
    ]  # fmt: skip


def test_a_hub_data_set_that_cannot_be_had_is_told_for_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, config: str | None, split: str) -> Iterator[Any]:
        raise RecipeError(f"cannot load {name} {split}")

    monkeypatch.setattr(dataset, "read_hub", unreachable)
    _, faults = load({"hub": "some/set", "train": "a", "validation": "b"})
    assert faults == [f"recipe: data.hub: cannot load some/set {split}" for split in "ab"]


def test_files_without_rows_are_told() -> None:
    _, faults = load({"validation": "validation.jsonl"}, train=numbered(9), validation=[])
    assert faults == ["recipe: data.validation: has no rows, got 'validation.jsonl'; give a file with at least one"]


def test_a_fraction_that_holds_out_nothing_is_told() -> None:
    _, faults = load({"validation": 0.01}, train=numbered(9))
    assert len(faults) == 1
    assert "data.validation: 0.01 of 9 rows is none; hold out more, or give a file" in faults[0]


# -- splits -----------------------------------------------------------------------------------------------------------


def test_several_files_are_one_split_in_their_order() -> None:
    splits = loaded(
        {"train": ["a.jsonl", "b.jsonl"], "validation": "v.jsonl"},
        a=numbered(3), b=[{"text": "last", "label": "a"}], v=numbered(3),
    )  # fmt: skip
    assert texts(splits.train) == ["text 0", "text 1", "text 2", "last"]
    assert splits.train[3].place == "b.jsonl:1"


def test_the_hold_out_is_stratified_and_loses_no_row() -> None:
    rows = numbered(60, "a") + [{"text": f"rare {index}", "label": "b"} for index in range(20)]
    splits = loaded({"validation": 0.25}, train=rows)
    assert Counter(example.row["label"] for example in splits.validation) == {"a": 15, "b": 5}
    assert sorted(texts(splits.train) + texts(splits.validation)) == sorted(row["text"] for row in rows)


def test_the_seed_alone_decides_the_hold_out() -> None:
    examples = [Example(row, f"x:{number}") for number, row in enumerate(numbered(60))]
    _, first = hold_out(examples, 15, TextClassification, seed=1)
    _, again = hold_out(examples, 15, TextClassification, seed=1)
    _, other = hold_out(examples, 15, TextClassification, seed=2)
    assert first == again
    assert first != other


def test_a_label_of_equal_texts_is_not_held_out_whole() -> None:
    rows = numbered(60) + [{"text": "same", "label": "rare"}] * 10
    splits = loaded({"validation": 0.1}, train=rows)
    assert Counter(texts(splits.train))["same"] == 10


LABELLED = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=1, max_size=40)


@settings(deadline=None)
@given(LABELLED, st.integers(0, 45), st.integers(0, 3))
def test_equal_texts_stay_on_one_side_and_no_more_than_wanted_are_held_out(
    labelled: list[tuple[int, str]], count: int, seed: int
) -> None:
    examples = [
        Example({"text": f"t{number}", "label": label}, f"x:{line}") for line, (number, label) in enumerate(labelled)
    ]
    rest, held = hold_out(examples, count, TextClassification, seed)
    assert not set(texts(rest)) & set(texts(held))
    assert sorted(e.place for e in [*rest, *held]) == sorted(e.place for e in examples)
    assert len(held) <= count
    if len(set(texts(examples))) == len(examples):
        assert len(held) == min(count, len(examples))


@pytest.mark.parametrize("limit", [7, 10, 50])
def test_a_limit_leaves_exactly_that_many_rows_to_train_on_stratified(limit: int) -> None:
    splits = loaded({"limit": limit, "validation": "v.jsonl"}, train=numbered(99), v=numbered(6))
    counts = Counter(example.row["label"] for example in splits.train)
    assert counts.total() == limit
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(splits.validation) == 6


def test_a_limit_above_the_number_of_rows_changes_nothing() -> None:
    assert len(loaded({"limit": 1000, "validation": "v.jsonl"}, train=numbered(9), v=numbered(3)).train) == 9


# -- digest -----------------------------------------------------------------------------------------------------------


def test_equal_data_has_an_equal_digest_whatever_its_files() -> None:
    rows = numbered(30)
    toy.write_csv(Path("rows.csv"), rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**row, "extra": 1} for row in rows]), "rows.parquet")
    digests = {loaded({"train": name, "validation": 0.2}, rows=rows).digest() for name in
               ("rows.csv", "rows.parquet", "rows.jsonl")}  # fmt: skip
    assert len(digests) == 1


def test_any_change_of_the_data_changes_the_digest() -> None:
    rows = numbered(12)
    changed: list[tuple[dict[str, Any], Rows]] = [
        ({"validation": "train.jsonl"}, rows),
        ({"validation": "train.jsonl"}, [*rows[:-1], {**rows[-1], "text": "other"}]),
        ({"validation": "train.jsonl"}, [*rows[:-1], {**rows[-1], "label": "b"}]),
        ({"validation": "train.jsonl"}, rows[::-1]),
        ({"validation": "train.jsonl"}, rows[:-1]),
        ({"validation": "train.jsonl", "test": "train.jsonl"}, rows),
        ({"validation": 0.5}, rows),
    ]
    digests = [loaded(data, train=content).digest() for data, content in changed]
    assert len(set(digests)) == len(digests)


def test_the_digest_does_not_depend_on_the_process() -> None:
    """A fixed value: a digest that changes with the release would call old data new."""
    splits = Splits([Example({"text": "ä", "label": "x"}, "a:1")], [], [])
    content = b"train" + json.dumps({"label": "x", "text": "ä"}, ensure_ascii=False).encode() + b"validation" + b"test"
    assert splits.digest() == hashlib.sha256(content).hexdigest()


def test_a_second_text_that_no_training_row_has_is_a_fault_of_its_row() -> None:
    _, faults = load(
        {"validation": "dev.jsonl"}, train=numbered(6), dev=[{"text": "x", "text_pair": "y", "label": "a"}]
    )
    assert faults == ["dev.jsonl:1: text_pair: is in validation and in no row of train; leave it out of validation"]


def test_a_rare_class_stays_in_train() -> None:
    rows = numbered(100, "ab") + [{"text": f"rare {index}", "label": f"c{index}"} for index in range(10)]
    splits = loaded({"validation": 0.1}, train=rows)
    assert {row["label"] for row in rows} == {example.row["label"] for example in splits.train}


def test_texts_that_differ_in_white_space_and_case_stay_on_one_side() -> None:
    rows = [{"text": text, "label": "ab"[n % 2]} for n in range(40) for text in (f"Text {n}", f"text  {n} ")]
    splits = loaded({"validation": 0.25}, train=rows)
    assert splits.validation
    assert dataset.overlap(splits, TextClassification) == {"validation": 0, "test": 0}


def test_rows_of_a_file_that_are_also_in_train_are_counted() -> None:
    splits = loaded({"validation": "dev.jsonl"}, train=numbered(9), dev=[{"text": "TEXT 1", "label": "b"}])
    assert dataset.overlap(splits, TextClassification) == {"validation": 1, "test": 0}


def test_a_missing_file_is_one_fault_and_not_one_for_every_label() -> None:
    _, faults = load({"train": "none.jsonl", "validation": "dev.jsonl"}, dev=numbered(9))
    assert len(faults) == 1
    assert "no such file" in faults[0]
