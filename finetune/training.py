"""transformers.Trainer, fed and scored through the task: our batches in, the task's metrics out."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from finetune.batches import LengthBatches
from finetune.prediction import predict
from finetune.recipe import Recipe
from finetune.stopwatch import Stopwatch
from serving.settings import read_available_cores
from serving.tasks import Task
from serving.tensors import Row, Tensors, sizes, stack

DEFAULT_ROWS = 32


class EncodedRows(torch.utils.data.Dataset[Tensors]):
    """Rows as arrays: what ``task.encode`` and ``task.label`` give, with the rows they came from."""

    def __init__(self, rows: Sequence[Row], arrays: Sequence[Tensors], encoded: Sequence[Tensors]) -> None:
        self.rows, self.arrays, self.encoded = rows, arrays, encoded

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> Tensors:
        return self.arrays[index]


class Interruption(TrainerCallback):
    """Turns Ctrl-C and SIGTERM into a resumable checkpoint at the end of the running step; scores the last step."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Catch the signals inside the block; a second Ctrl-C stops at once, without saving."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if state.global_step >= state.max_steps:
            # The last weights compete for the best, wherever the steps of the evaluations fall.
            control.should_evaluate = control.should_save = True
        if self.requested:
            control.should_save = control.should_training_stop = True
        return control


class TaskTrainer(Trainer):
    """A Trainer whose batches are of like length and whose evaluation is the task's own decode and score."""

    def __init__(self, task: Task, recipe: Recipe, model: PreTrainedModel, **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)
        self.task, self.recipe = task, recipe
        self.rows: EncodedRows = kwargs["train_dataset"]
        self.validation: EncodedRows = kwargs["eval_dataset"]
        self.network = model
        self.stopwatch = Stopwatch()
        self.add_callback(self.stopwatch)
        # The models take keyword arguments but do not divide by the rows of all accumulated batches: Trainer must.
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> DataLoader[Tensors]:
        """Length-grouped batches; accelerate shards them over processes."""
        batches = length_batches(self.recipe, self.task, self.rows)
        return self.accelerator.prepare(  # type: ignore[no-any-return]
            DataLoader(self.rows, batch_sampler=batches, collate_fn=self._collate)
        )

    def _collate(self, rows: Sequence[Tensors]) -> dict[str, torch.Tensor]:
        (graph,) = self.task.graphs.values()
        batch = stack(rows, graph.inputs)
        for name in rows[0].keys() - batch.keys():
            batch[name] = np.stack([row[name] for row in rows])
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One batch forward and backward, counted by the stopwatch."""
        if "attention_mask" in inputs:
            self.stopwatch.batch(inputs["attention_mask"])
        return super().training_step(model, inputs, num_items_in_batch)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """The task's scalar metrics over the validation rows, and nothing gathered but the decoded answers."""
        predicted = predict(self.network, self.task, self.validation.encoded)
        scores = self.task.score(predicted, self.validation.rows)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items() if isinstance(value, float)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def length_batches(recipe: Recipe, task: Task, rows: EncodedRows) -> LengthBatches:
    """The batches of the recipe: by tokens if it says so, else by rows."""
    (graph,) = task.graphs.values()
    training = recipe.training
    return LengthBatches(
        [sum(sizes(row, graph.inputs).values()) for row in rows.encoded],
        rows=None if training.batch_tokens else training.batch_rows or DEFAULT_ROWS,
        tokens=training.batch_tokens,
        seed=recipe.seed,
    )


def build_trainer(
    recipe: Recipe,
    task: Task,
    model: PreTrainedModel,
    train: EncodedRows,
    validation: EncodedRows,
    folder: Path,
    callbacks: Sequence[TrainerCallback],
) -> TaskTrainer:
    """A trainer ready for ``train(resume_from_checkpoint=...)``; its resumable checkpoints go to ``folder``."""
    steps = -(-len(length_batches(recipe, task, train)) // recipe.training.accumulate)
    metric = next(iter(task.score(validation.rows, validation.rows)))
    patience = recipe.training.patience
    trainer = TaskTrainer(
        task,
        recipe,
        model,
        args=_arguments(recipe, folder, steps, metric),
        train_dataset=train,
        eval_dataset=validation,
        callbacks=[*callbacks, *([EarlyStoppingCallback(patience)] if patience is not None else [])],
    )
    trainer.remove_callback(PrinterCallback)  # the bar shows it
    return trainer


def limit_threads() -> None:
    """No more threads than this process may use: torch counts the cores of the host, and ignores a cgroup's quota."""
    torch.set_num_threads(min(torch.get_num_threads(), read_available_cores()))


def resolve_precision(wanted: str) -> str:
    """``auto`` becomes bf16 where the device computes it natively: emulated, it is slower than fp32."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def _arguments(recipe: Recipe, folder: Path, steps_per_epoch: int, metric: str) -> TrainingArguments:
    """The recipe in the words of transformers; everything it does not name is off."""
    training = recipe.training
    precision = resolve_precision(training.precision)
    every = -(-steps_per_epoch // training.evaluations)
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=training.epochs,
        gradient_accumulation_steps=training.accumulate,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule if training.schedule != "constant" else "constant_with_warmup",
        warmup_steps=training.warmup,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        label_smoothing_factor=training.label_smoothing,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=recipe.seed,
        data_seed=recipe.seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{metric}",
        greater_is_better=True,
        logging_steps=max(1, min(50, steps_per_epoch // 10)),
        remove_unused_columns=False,
        # The patience of an interrupted run goes on where it was.
        restore_callback_states_from_checkpoint=training.patience is not None,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        # A loss that is no number belongs into the log; filtering it out would make every step wait for the device.
        logging_nan_inf_filter=False,
        # transformers allows bf16 on a CPU only where a CPU is asked for.
        use_cpu=not torch.accelerator.is_available(),
        dataloader_pin_memory=torch.accelerator.is_available(),
        # Batches of our own differ in rows, so there is nothing to even out between processes.
        accelerator_config={"even_batches": False},
    )


def training_log(history: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, float | None]]]:
    """The Trainer's log as two series, ``train`` (loss, learning_rate, grad_norm) and ``validation`` (metrics)."""
    train = [_finite(entry) for entry in history if "loss" in entry]
    validation = [
        {name.removeprefix("eval_"): value for name, value in _finite(entry).items()}
        for entry in history
        if any(name.startswith("eval_") for name in entry)
    ]
    return {"train": train, "validation": validation}


def _finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with None for what is infinite or no number: JSON has neither, and a first fp16 step often has one."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }
