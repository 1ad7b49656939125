"""What every downstream task promises to training, export and serving; a new task is tested by being there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import tasks
from serving.errors import BundleError, InvalidInput, NotFound
from serving.tasks import Task
from serving.tensors import NUMPY_TYPES, Field, Row, check, sizes, stack
from tests.serving.bundles import write_assets

# How to write the assets of each task, and rows to try it on beside its own example.
ASSETS: dict[str, Callable[[Path], Path]] = {"text-classification": write_assets}
ROWS: dict[str, list[Row]] = {
    "text-classification": [
        {"text": "a"},
        {"text": "Grüße aus 東京 👩‍🚀", "text_pair": "x"},
        {"text": "long " * 500},
        {"text": "\ttabs\nand lines"},
    ]
}


@pytest.fixture(scope="module", params=tasks.names())
def name(request: pytest.FixtureRequest) -> str:
    assert request.param in ASSETS, "teach this module to write the assets of the new task"
    return str(request.param)


@pytest.fixture(scope="module")
def task(name: str, tmp_path_factory: pytest.TempPathFactory) -> Task:
    return tasks.find(name).open(ASSETS[name](tmp_path_factory.mktemp(name) / "assets"))


@pytest.fixture(scope="module")
def rows(name: str, task: Task) -> list[Row]:
    return [task.example, *ROWS[name]]


def same(first: Row, second: Row) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def graph_outputs(task: Task, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays as the task's last graph would give them for one row."""
    *_, graph = task.graphs.values()
    generator = np.random.default_rng(seed)
    return {
        field.name: generator.normal(size=shape_of(task, field)).astype(NUMPY_TYPES[field.dtype])
        for field in graph.outputs
    }


def shape_of(task: Task, field: Field) -> tuple[int, ...]:
    """A shape that the field allows; an axis that no assets fix has 3 elements."""
    return tuple(axis if isinstance(axis, int) else len(task.axes.get(axis, "abc")) for axis in field.shape)


def columns(task: Task) -> list[Field]:
    return [
        *task.inputs,
        *task.targets,
        *task.outputs,
        *(f for g in task.graphs.values() for f in g.inputs + g.outputs),
    ]


def test_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        tasks.find("no-such-task")
    for name in tasks.names():
        assert name in str(caught.value)


def test_fields_are_well_formed(task: Task) -> None:
    for field in columns(task):
        assert field.name.isidentifier(), field
        assert field.dtype in NUMPY_TYPES, field
        assert all(isinstance(axis, str) or axis > 0 for axis in field.shape), field
    for group in (task.inputs, task.targets, task.outputs, *((*g.inputs,) for g in task.graphs.values())):
        assert len({field.name for field in group}) == len(group)
    assert task.inputs
    assert task.outputs
    assert any(not field.optional for field in task.inputs)
    assert all(field.doc for field in (*task.inputs, *task.targets, *task.outputs))


def test_every_symbolic_axis_is_bounded_or_has_named_coordinates(task: Task) -> None:
    axes = {axis for field in columns(task) for axis in field.shape if isinstance(axis, str)}
    assert axes == task.max_sizes.keys() | task.axes.keys()


def test_no_target_can_leak_into_a_request(task: Task) -> None:
    assert not {field.name for field in task.targets} & {field.name for field in task.inputs}


def test_rows_pass_the_check_and_encode_into_the_first_graphs_arrays(task: Task, rows: list[Row]) -> None:
    graph = next(iter(task.graphs.values()))
    for row in rows:
        encoded = task.encode(check(row, task.inputs))
        assert encoded.keys() == {field.name for field in graph.inputs}
        for field in graph.inputs:
            assert encoded[field.name].dtype == NUMPY_TYPES[field.dtype]
            assert encoded[field.name].ndim == len(field.shape)
        for axis, size in sizes(encoded, graph.inputs).items():
            assert 1 <= size <= task.max_sizes[axis]


def test_row_is_encoded_the_same_whatever_was_encoded_before(task: Task, rows: list[Row]) -> None:
    before = [task.encode(check(row, task.inputs)) for row in rows]
    after = [task.encode(check(row, task.inputs)) for row in reversed(rows)][::-1]
    assert all(map(same, before, after))


def test_many_threads_encode_as_one_does(task: Task, rows: list[Row]) -> None:
    checked = [check(row, task.inputs) for row in rows] * 20
    with ThreadPoolExecutor(8) as pool:
        assert all(map(same, pool.map(task.encode, checked), map(task.encode, checked)))


def test_encode_does_not_change_its_row(task: Task, rows: list[Row]) -> None:
    for row in rows:
        checked = check(row, task.inputs)
        copy = dict(checked)
        task.encode(checked)
        assert checked == copy


def test_encoded_rows_stack_into_one_batch(task: Task, rows: list[Row]) -> None:
    graph = next(iter(task.graphs.values()))
    batch = stack([task.encode(check(row, task.inputs)) for row in rows], graph.inputs)
    assert {len(array) for array in batch.values()} == {len(rows)}


def test_decode_gives_every_declared_output_in_its_type_and_shape(task: Task) -> None:
    encoded = task.encode(check(task.example, task.inputs))
    for seed in range(5):
        answer = task.decode(encoded, graph_outputs(task, seed))
        assert answer.keys() == {field.name for field in task.outputs}
        for field in task.outputs:
            value = answer[field.name]
            if field.dtype == "BYTES" and not field.shape:
                assert isinstance(value, str)
                continue
            array = np.asarray(value)
            assert array.dtype == NUMPY_TYPES[field.dtype], field
            assert array.shape == shape_of(task, field), field


def test_perfect_predictions_score_highest_by_the_first_metric(task: Task) -> None:
    possible = [answer_row(task, seed) for seed in range(40)]

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.sampled_from(range(len(possible))), min_size=2, max_size=8), st.randoms())
    def holds(chosen: list[int], random: Any) -> None:
        expected = [possible[index] for index in chosen]
        predicted = [possible[random.randrange(len(possible))] for _ in chosen]
        perfect, other = (first_metric(task, rows, expected) for rows in (expected, predicted))
        assert isinstance(perfect, float)
        assert perfect >= other

    holds()


def test_wrong_predictions_score_lower_than_perfect_ones(task: Task) -> None:
    possible = [answer_row(task, seed) for seed in range(40)]
    target = task.targets[0].name
    first = possible[0]
    wrong = next(row for row in possible if row[target] != first[target])
    assert first_metric(task, [wrong], [first]) < first_metric(task, [first], [first])


def answer_row(task: Task, seed: int) -> Row:
    return task.decode(task.encode(check(task.example, task.inputs)), graph_outputs(task, seed))


def first_metric(task: Task, predicted: list[Row], expected: list[Row]) -> Any:
    return next(iter(task.score(predicted, expected).values()))


def test_target_becomes_arrays_and_an_unknown_one_is_refused_with_the_known(task: Task) -> None:
    for target in task.targets:
        coordinates = [names for names in task.axes.values() if names]
        for known in coordinates[0]:
            assert all(isinstance(array, np.ndarray) for array in task.label({target.name: known}).values())
        with pytest.raises(InvalidInput, match=f"^{target.name}: .*'no such'") as caught:
            task.label({target.name: "no such"})
        for known in coordinates[0]:
            assert known in str(caught.value)


def test_damaged_assets_are_refused(name: str, tmp_path: Path) -> None:
    assets = ASSETS[name](tmp_path / "assets")
    for file in sorted(assets.iterdir()):
        content = file.read_bytes()
        file.write_bytes(b"{")
        with pytest.raises(BundleError):
            tasks.find(name).open(assets)
        file.write_bytes(content)
    tasks.find(name).open(assets)
