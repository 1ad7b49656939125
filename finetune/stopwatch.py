"""Where the time of a run goes: its stages one after the other, and the training steps by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# The first steps allocate memory and choose kernels; they are not what a long run is made of.
WARM_UP = 3


class Stages:
    """Seconds by stage, in the order in which they end."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._since = clock, clock()
        self.seconds: dict[str, float] = {}

    def done(self, name: str) -> None:
        """All time since the stage before belongs to ``name``."""
        now = self._clock()
        self.seconds[name], self._since = round(now - self._since, 3), now


class Stopwatch(TrainerCallback):
    """Times the steps after the warm-up, with all that happens between them but evaluations and saving.

    ``batch`` is called with every batch of a step; a loop without a Trainer calls ``start`` and ``step`` too.
    """

    def __init__(self, warm_up: int = WARM_UP, clock: Callable[[], float] = time.perf_counter) -> None:
        self._warm_up, self._clock = warm_up, clock
        self._since = clock()
        self._taken = 0
        self.paused = 0.0  # seconds of evaluations and saving
        self._forget()

    def _forget(self) -> None:
        self._steps, self._seconds, self._padded = 0, 0.0, 0
        self._tokens: Any = 0

    def start(self) -> None:
        """The next step begins now."""
        self._since = self._clock()

    def batch(self, mask: torch.Tensor) -> None:
        """Count a batch by its attention mask, 1 for a token and 0 for padding, int64 [rows, length]."""
        # Stays on the device: reading the sum here would make every step wait for the accelerator.
        self._tokens = self._tokens + mask.sum()
        self._padded += mask.numel()

    def step(self) -> None:
        """An optimizer step ends now, and the next one begins."""
        now = self._clock()
        self._steps, self._seconds, self._since = self._steps + 1, self._seconds + now - self._since, now
        self._taken += 1
        if self._taken == self._warm_up:
            self._forget()

    def speed(self) -> dict[str, float]:
        """Figures of the steps after the warm-up: ``steps``, ``seconds``, ``tokens`` and ``padded_tokens``."""
        return {
            "steps": self._steps,
            "seconds": round(self._seconds, 4),
            "tokens": int(self._tokens),
            "padded_tokens": self._padded,
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.step()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._pause()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._pause()

    def _pause(self) -> None:
        now = self._clock()
        self.paused, self._since = self.paused + now - self._since, now
