"""Two contenders: a training loop as one writes it by hand in PyTorch, with everything that is known to help.

All rows are tokenized once; batches are padded to their own longest row; fused AdamW; nothing is logged. Batches are
drawn at random, or with ``--sorted`` cut from the rows sorted by length and then shuffled. Run as
``python -m finetune.bench.loop RECIPE OUTPUT [--sorted]``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
    set_seed,
)

from finetune.base_model import locate
from finetune.bench import job
from finetune.recipe import Training
from finetune.stopwatch import Stages, Stopwatch
from finetune.training import resolve_precision
from serving.bundle import write_json


def main(recipe: Path, output: Path, *, by_length: bool) -> None:
    """Train as the recipe of a job says; ``output`` is a folder for the model and ``figures.json``."""
    stages, stopwatch = Stages(), Stopwatch()
    work = job.read(recipe)
    training, base = work.recipe.training, locate(work.recipe.model)
    set_seed(work.recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(work.labels))
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    model.to(device)
    stages.done("reading")
    encoded = tokenizer(*work.texts(), truncation=True, max_length=work.recipe.max_length)
    rows = [
        (torch.tensor(ids), work.labels.index(str(row["label"])))
        for ids, row in zip(encoded["input_ids"], work.rows, strict=True)
    ]
    stages.done("encoding")
    assert training.batch_rows is not None
    order = _batches([len(ids) for ids, _ in rows], training.batch_rows, work.recipe.seed, by_length)
    loader = DataLoader(rows, batch_sampler=order, collate_fn=partial(_collate, pad_id=tokenizer.pad_token_id))  # type: ignore[arg-type, var-annotated]
    _train(model, loader, training, stopwatch, device)
    stages.done("training")
    model.save_pretrained(output)
    stages.done("saving")
    write_json(output / "figures.json", {"speed": stopwatch.speed(), "stages": stages.seconds})


def _train(
    model: torch.nn.Module, loader: DataLoader[Any], training: Training, stopwatch: Stopwatch, device: torch.device
) -> None:
    optimizer = torch.optim.AdamW(_groups(model, training.weight_decay), lr=training.learning_rate, fused=True)
    warmup = int(training.warmup * len(loader))
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, len(loader))  # type: ignore[no-untyped-call]
    bf16 = resolve_precision(training.precision) == "bf16"
    model.train()
    stopwatch.start()
    for batch in loader:
        on_device = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(**on_device).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        stopwatch.batch(batch["attention_mask"])
        stopwatch.step()


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only, as Trainer has it."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _batches(lengths: Sequence[int], rows: int, seed: int, by_length: bool) -> list[list[int]]:
    generator = Random(seed)
    order = list(range(len(lengths)))
    generator.shuffle(order)
    if by_length:
        order.sort(key=lengths.__getitem__)
    batches = [order[start : start + rows] for start in range(0, len(order), rows)]
    generator.shuffle(batches)
    return batches


def _collate(rows: Sequence[tuple[torch.Tensor, int]], pad_id: int) -> dict[str, torch.Tensor]:
    ids = pad_sequence([ids for ids, _ in rows], batch_first=True, padding_value=pad_id)
    mask = pad_sequence([torch.ones_like(ids) for ids, _ in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([label for _, label in rows])}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), by_length="--sorted" in sys.argv)
