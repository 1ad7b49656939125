"""A contender: fine-tuning as transformers' own example does it, every row padded to the longest allowed.

The set-up of ``examples/pytorch/text-classification/run_classification.py`` with its defaults: ``datasets.map`` with
``padding="max_length"``, the default collator, Trainer. Run as ``python -m finetune.bench.run_classification``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from finetune.base_model import locate
from finetune.bench import job
from finetune.stopwatch import Stages, Stopwatch
from finetune.training import resolve_precision
from serving.bundle import write_json


def main(recipe: Path, output: Path) -> None:
    """Train as the recipe of a job says; ``output`` is a folder for the model and ``figures.json``."""
    stages, stopwatch = Stages(), Stopwatch()
    work = job.read(recipe)
    base, labels = locate(work.recipe.model), {name: number for number, name in enumerate(work.labels)}
    arguments = _arguments(work, output)
    set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
    # The stopwatch must see the batches; the hook costs microseconds.
    model.register_forward_pre_hook(
        lambda module, positional, named: stopwatch.batch(named["attention_mask"]), with_kwargs=True
    )
    stages.done("reading")

    def encode(rows: dict[str, list[str]]) -> Any:
        texts = (rows["text"], rows["text_pair"]) if "text_pair" in rows else (rows["text"],)
        encoded = tokenizer(*texts, padding="max_length", max_length=work.recipe.max_length, truncation=True)
        encoded["label"] = [labels[name] for name in rows["label"]]
        return encoded

    rows = Dataset.from_list([dict(row) for row in work.rows])
    encoded = rows.map(encode, batched=True, remove_columns=rows.column_names)
    stages.done("encoding")
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded,
        processing_class=tokenizer,
        data_collator=default_data_collator,
        callbacks=[stopwatch],
    )
    trainer.train()
    stages.done("training")
    trainer.save_model()
    stages.done("saving")
    write_json(output / "figures.json", {"speed": stopwatch.speed(), "stages": stages.seconds})


def _arguments(work: job.Job, output: Path) -> TrainingArguments:
    training = work.recipe.training
    assert training.batch_rows is not None
    return TrainingArguments(
        output_dir=str(output),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_rows,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        bf16=resolve_precision(training.precision) == "bf16",
        fp16=training.precision == "fp16",
        seed=work.recipe.seed,
        report_to=[],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
