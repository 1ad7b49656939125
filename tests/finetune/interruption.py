"""Ctrl-C at a chosen step of a run that goes through the command's own ``main``."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune import __main__ as command


class Interrupt(TrainerCallback):
    """Sends a signal to this very process while a step runs."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self._step, self._number = step, number

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step + 1 == self._step:
            os.kill(os.getpid(), self._number)


class Steps(TrainerCallback):
    """Notes the number of every optimizer step that is really done."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.done.append(state.global_step)


def interrupted_main(argv: list[str], step: int, number: signal.Signals = signal.SIGINT) -> int:
    """The exit code of ``downstream finetune`` that gets the signal during that optimizer step."""
    return _main(argv, Interrupt(step, number))


def counted_main(argv: list[str]) -> tuple[int, list[int]]:
    """The exit code of ``downstream finetune``, and the numbers of the steps that it did."""
    steps = Steps()
    return _main(argv, steps), steps.done


def _main(argv: list[str], callback: TrainerCallback) -> int:
    build = command.build_trainer

    def build_watched(*args: Any) -> Any:
        trainer = build(*args)
        trainer.add_callback(callback)
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "build_trainer", build_watched)
        return command.main(argv)
