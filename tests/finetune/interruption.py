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


def interrupted_main(argv: list[str], step: int, number: signal.Signals = signal.SIGINT) -> int:
    """The exit code of ``downstream finetune`` that gets the signal during that optimizer step."""
    build = command.build_trainer

    def build_interrupted(*args: Any) -> Any:
        trainer = build(*args)
        trainer.add_callback(Interrupt(step, number))
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "build_trainer", build_interrupted)
        return command.main(argv)
