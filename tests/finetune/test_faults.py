"""Faults are gathered with their places and told in one go."""

from __future__ import annotations

import pytest

from finetune.faults import SHOWN, Faults, RecipeError


def test_no_fault_raises_nothing() -> None:
    faults = Faults()
    faults.raise_any()
    assert len(faults) == 0


def test_all_faults_are_in_one_error() -> None:
    faults = Faults()
    faults.add("a.csv:3", "is wrong")
    faults.add("a.csv:9", "is wrong too")
    with pytest.raises(RecipeError) as caught:
        faults.raise_any()
    assert str(caught.value) == "2 faults; nothing was trained:\n  a.csv:3: is wrong\n  a.csv:9: is wrong too"


def test_a_file_full_of_faults_does_not_fill_the_screen() -> None:
    faults = Faults()
    for line in range(SHOWN + 30):
        faults.add(f"a.csv:{line}", "is wrong")
    with pytest.raises(RecipeError) as caught:
        faults.raise_any()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{SHOWN + 30} faults")
    assert lines[-1].strip() == "... and 30 more"
    assert len(lines) == SHOWN + 2


@pytest.mark.parametrize(
    ("key", "place"),
    [("data.train", "r.yaml:3"), ("data.columns.text", "r.yaml:2"), ("seed", "r.yaml:1"), ("model.base", "r.yaml:1")],
)
def test_a_key_is_placed_at_the_nearest_one_that_was_written(key: str, place: str) -> None:
    faults = Faults(places={"": "r.yaml:1", "data": "r.yaml:2", "data.train": "r.yaml:3"})
    faults.add_key(key, "is wrong")
    with pytest.raises(RecipeError, match=f"{place}: {key}: is wrong"):
        faults.raise_any()
