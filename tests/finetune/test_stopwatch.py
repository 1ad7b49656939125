"""The stopwatch: steps after the warm-up, without evaluations and saving; stages that follow one another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from finetune.stopwatch import Stages, Stopwatch


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


NOTHING: Any = None


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_stages_follow_one_another_without_gaps(clock: Clock) -> None:
    stages = Stages(clock)
    clock.pass_(2)
    stages.done("reading")
    clock.pass_(0.5)
    stages.done("training")
    assert stages.seconds == {"reading": 2.0, "training": 0.5}


def test_steps_of_the_warm_up_do_not_count(clock: Clock) -> None:
    watch = Stopwatch(warm_up=2, clock=clock)
    clock.pass_(50)
    watch.start()
    for seconds in (9, 9, 1, 2):
        watch.batch(torch.tensor([[1, 1, 1], [1, 0, 0]]))
        clock.pass_(seconds)
        watch.step()
    assert watch.speed() == {"steps": 2, "seconds": 3.0, "tokens": 8, "padded_tokens": 12}


def test_a_step_of_several_batches_counts_them_all(clock: Clock) -> None:
    watch = Stopwatch(warm_up=0, clock=clock)
    for _ in range(3):
        watch.batch(torch.ones(2, 5, dtype=torch.int64))
    clock.pass_(1)
    watch.step()
    assert watch.speed() == {"steps": 1, "seconds": 1.0, "tokens": 30, "padded_tokens": 30}


def test_evaluating_and_saving_between_steps_is_no_part_of_them(clock: Clock) -> None:
    watch = Stopwatch(warm_up=0, clock=clock)
    watch.on_train_begin(NOTHING, NOTHING, NOTHING)
    clock.pass_(1)
    watch.on_step_end(NOTHING, NOTHING, NOTHING)
    clock.pass_(20)
    watch.on_evaluate(NOTHING, NOTHING, NOTHING)
    clock.pass_(4)
    watch.on_save(NOTHING, NOTHING, NOTHING)
    clock.pass_(3)
    watch.on_step_end(NOTHING, NOTHING, NOTHING)
    assert watch.speed()["seconds"] == 4.0
    assert watch.paused == 24.0
