"""Recipe files: strict, every fault told at once with its line, ``key=value`` on top, and never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from finetune.faults import Faults, RecipeError
from finetune.recipe import Recipe
from finetune.recipe_file import known_keys, read
from tests.finetune import toy

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "finetune" / "recipes").glob("*.yaml"))
GOOD = """task: text-classification
output: runs/a
model:
  base: somewhere
data:
  train: a.csv
training:
  epochs: 2
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def accepted(text: str, *overrides: str) -> Recipe:
    Path("r.yaml").write_text(text, "utf-8")
    faults = Faults()
    recipe = read(Path("r.yaml"), overrides, faults)
    faults.raise_any()
    assert recipe is not None
    return recipe


def refused(text: str | bytes, *overrides: str) -> list[str]:
    """The faults, one line each."""
    Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    faults = Faults()
    read(Path("r.yaml"), overrides, faults)
    with pytest.raises(RecipeError) as caught:
        faults.raise_any()
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_every_fault_is_told_at_once_with_its_line() -> None:
    told = refused(
        "task: text-clasification\n"
        "output: runs/a\n"
        "sead: 1\n"
        "model:\n"
        "  base: x\n"
        "  scratch: {layers: 1}\n"
        "data:\n"
        "  train: 5\n"
        "training:\n"
        "  epochs: many\n"
        "  batch_rows: 8\n"
        "  batch_rows: 9\n"
    )
    places = {line.split(": ")[0]: line for line in told}
    assert list(places) == [f"r.yaml:{number}" for number in (12, 1, 4, 8, 10, 3)]
    assert len(told) == 6
    for number, fragment in [
        (1, "unknown task 'text-clasification'"),
        (3, "sead: unknown key; did you mean seed?"),
        (4, "exactly one of base (pretrained) and scratch"),
        (8, "data.train: should be a valid string, or should be a valid list, got 5"),
        (10, "training.epochs: should be a valid number, got 'many'"),
        (12, "training.batch_rows: given twice"),
    ]:
        assert fragment in places[f"r.yaml:{number}"]


def test_all_missing_keys_are_named() -> None:
    told = refused("model: {base: x}\n")
    assert [line.split(": ")[1] for line in told] == ["task", "output", "data"]
    assert all("missing" in line for line in told)


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.epoch=3", "training.epochs"),
        ("training.learnign_rate=1e-4", "training.learning_rate"),
        ("data.trian=b.csv", "data.train"),
        ("learning_rate=1e-4", "training.learning_rate"),
        ("training.max_length=64", "max_length"),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(override: str, meant: str) -> None:
    (told,) = refused(GOOD, override)
    assert told.startswith(f"command line: {override.partition('=')[0]}: unknown key")
    assert f"did you mean {meant}?" in told


def test_an_unknown_section_is_answered_with_the_one_that_was_meant() -> None:
    (told,) = refused(GOOD.replace("training:", "trainig:"))
    assert told == "r.yaml:7: trainig: unknown key; did you mean training?"


def test_an_unknown_key_like_no_other_lists_the_keys_of_its_section() -> None:
    (told,) = refused(GOOD, "model.zzz=1")
    assert told.startswith("command line: model.zzz: unknown key")
    assert all(name in told for name in ("base", "revision", "scratch"))


@pytest.mark.parametrize("spelling", ["5e-5", "5E-5", "5e-05", "5.0e-5", "0.00005", "+5e-5"])
def test_exponents_are_numbers_however_they_are_written(spelling: str) -> None:
    assert accepted(GOOD, f"training.learning_rate={spelling}").training.learning_rate == 5e-5
    assert accepted(GOOD + f"  learning_rate: {spelling}\n").training.learning_rate == 5e-5


def test_a_text_that_only_looks_like_an_exponent_stays_a_text() -> None:
    assert accepted(GOOD, "output='5e-5'").output == "5e-5"
    assert accepted(GOOD, "output=e5").output == "e5"


def test_a_key_given_twice_is_told_where_it_stands_again() -> None:
    assert refused(GOOD + "task: text-classification\n") == ["r.yaml:9: task: given twice; remove one"]
    nested = GOOD + "  accumulate: 2\n  epochs: 3\n"
    assert refused(nested) == ["r.yaml:10: training.epochs: given twice; remove one"]


def test_overrides_win_over_the_file_and_are_typed_as_yaml() -> None:
    recipe = accepted(
        GOOD,
        "training.epochs=0.5",
        "data.train=[a.csv, b.csv]",
        "data.columns={text: body, label: team}",
        "data.labels.0=negative",
        "data.test=null",
        "cleaning.html=true",
        "model.scratch=null",
        "output=runs/b=c",
    )
    assert recipe.training.epochs == 0.5
    assert recipe.data.train == ["a.csv", "b.csv"]
    assert recipe.data.columns == {"text": "body", "label": "team"}
    assert recipe.data.labels == {"0": "negative"}
    assert recipe.data.test is None
    assert recipe.cleaning.html is True
    assert recipe.output == "runs/b=c"


def test_the_last_of_two_overrides_wins() -> None:
    assert accepted(GOOD, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["training.epochs", "=3", ""])
def test_an_override_that_is_no_assignment_is_told(override: str) -> None:
    assert refused(GOOD, override) == [f"command line: cannot read {override!r}; write section.key=value"]


@pytest.mark.parametrize("value", ["[", "{a: ", "!foo bar", "2024-13-45", '"'])
def test_an_override_that_is_no_yaml_is_told(value: str) -> None:
    told = refused(GOOD, f"training.epochs={value}")
    assert told == [f"command line: training.epochs: cannot read the value {value!r}; quote it as YAML"]


def test_a_wrong_override_is_told_to_be_on_the_command_line() -> None:
    assert refused(GOOD, "training.epochs=-1", "training=fast")[0].startswith("command line: training: should be")
    (told,) = refused(GOOD, "training.epochs=-1")
    assert told == "command line: training.epochs: should be greater than 0, got -1"


def test_a_key_that_may_be_several_things_has_one_fault() -> None:
    (told,) = refused(GOOD, "data.validation=1.5")
    assert "should be less than 1" in told
    assert told.endswith("got 1.5")


def test_faulty_keys_do_not_hide_what_else_can_be_checked() -> None:
    Path("r.yaml").write_text(GOOD.replace("epochs: 2", "epochs: -2"), "utf-8")
    faults = Faults()
    recipe = read(Path("r.yaml"), ["nonsense=1"], faults)
    assert len(faults) == 2
    assert recipe is not None
    assert recipe.data.train == "a.csv"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("task: [\n", "r.yaml:2"),
        ("output: !foo bar\n", "r.yaml:1"),
        ("a: 1\noutput: {{ output }}\n", "r.yaml:2"),
        ("a: b: c\n", "r.yaml:1"),
        ("seed: 2024-13-45\n", "r.yaml"),
        ("task: \x00\n", "r.yaml"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, place: str) -> None:
    (told,) = refused(text)
    assert told.startswith(f"{place}: not valid YAML: ")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just words\n"])
def test_what_is_no_mapping_is_told(text: str) -> None:
    assert refused(text) == ["r.yaml:1: a recipe is a mapping of keys to values; see finetune/recipes/ for examples"]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (told,) = refused(b"task: caf\xe9\n")
    assert told.startswith("r.yaml: cannot be read")
    for path in (Path("none.yaml"), tmp_path):
        faults = Faults()
        assert read(path, [], faults) is None
        with pytest.raises(RecipeError, match="cannot be read"):
            faults.raise_any()


def test_a_byte_order_mark_is_no_fault() -> None:
    assert accepted("\ufeff" + GOOD).task == "text-classification"


def test_there_are_fewer_than_sixty_keys() -> None:
    keys = known_keys()
    assert 30 < len(keys) < 60
    assert {"task", "model.base", "model.scratch.layers", "data.train", "training.learning_rate"} <= keys.keys()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipes_that_ship_are_valid(path: Path) -> None:
    faults = Faults()
    assert read(path, [], faults) is not None
    assert not len(faults)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@hypothesis_settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from([*known_keys(), "training", "data", "model", "x.y"]), VALUES, max_size=6))
def test_whatever_values_a_recipe_has_it_is_accepted_or_its_faults_are_told(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(toy.recipe(Path("x"))), "utf-8")
    overrides = [f"{key}={yaml.safe_dump(value, default_flow_style=True).strip()}" for key, value in values.items()]
    faults = Faults()
    recipe = read(path, overrides, faults)
    assert (recipe is not None) or len(faults)


@hypothesis_settings(deadline=None, max_examples=100)
@given(st.text(max_size=40) | st.text("ab:-[]{}&*!|>'\"%@`#, \n", max_size=40))
def test_whatever_text_a_recipe_is_its_faults_are_told(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, "utf-8", newline="")
    faults = Faults()
    read(path, [], faults)
    assert len(faults)
