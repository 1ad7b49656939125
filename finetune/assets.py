"""What travels with the weights from here to the last server: tokenizer, cleaning, labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedConfig

from finetune.base_model import forward_parameters, locate, longest, read_config, tokenizer_arrays
from finetune.faults import Faults
from finetune.recipe import Recipe
from finetune.sources import Example
from finetune.vocabulary import PAD, train
from serving.bundle import write_json
from serving.modality.cleaning import Cleaning
from serving.modality.text import SETTINGS, TOKENIZER, TextSettings
from serving.tasks import Task, find

ARRAYS = ("input_ids", "token_type_ids", "attention_mask")


def check_base(recipe: Recipe, faults: Faults) -> Path | None:
    """The folder of the pretrained base (None from scratch); what does not fit the recipe goes to ``faults``."""
    if recipe.training.precision == "fp16" and not torch.accelerator.is_available():
        faults.add_key("training.precision", "fp16 needs a GPU; use bf16, fp32 or auto")
    scratch = recipe.model.scratch is not None
    try:
        folder = None if scratch else locate(recipe.model)
        config = read_config(recipe, folder, recipe.tokenizer.vocab_size if recipe.tokenizer else 0, 0)
        forward_parameters(find(recipe.task), config)
        if folder is not None:
            Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # tokenizers raises bare Exception, transformers many kinds
        faults.add_key("model.scratch.type" if scratch else "model.base", str(error))
        return None
    bound = None if scratch else longest(config)
    if bound is not None and recipe.max_length > bound:
        faults.add_key("max_length", f"the base has {bound} positions, got {recipe.max_length}; give at most {bound}")
    return folder


def write(
    recipe: Recipe, task: type[Task], folder: Path | None, examples: Sequence[Example], assets: Path
) -> PreTrainedConfig:
    """Write ``assets/`` and give the configuration of the model that goes with it."""
    assets.mkdir(exist_ok=True)
    cleaning = Cleaning(**recipe.cleaning.model_dump())
    for name, value in task.learn([example.row for example in examples]).items():
        write_json(assets / name, value)
    if folder is not None:
        shutil.copyfile(folder / TOKENIZER, assets / TOKENIZER)
        config = read_config(recipe, folder, 0, 0)
        arrays, pad_id = tokenizer_arrays(folder, task, config)
    else:
        tokenizer = _train_tokenizer(recipe, task, examples, cleaning)
        tokenizer.save(str(assets / TOKENIZER))
        pad_id = tokenizer.token_to_id(PAD) or 0
        config = read_config(recipe, None, tokenizer.get_vocab_size(), pad_id)
        taken = forward_parameters(task, config)
        arrays = tuple(name for name in ARRAYS if name in taken)
    pair = _pair_use(examples)
    write_json(assets / SETTINGS, TextSettings(recipe.max_length, arrays, pad_id, pair, cleaning).to_json())
    return config


def _pair_use(examples: Sequence[Example]) -> str:
    """Whether training rows have a second text: what the model has never seen, serving does not take."""
    with_pair = sum("text_pair" in example.row for example in examples)
    return "never" if not with_pair else "always" if with_pair == len(examples) else "sometimes"


def _train_tokenizer(recipe: Recipe, task: type[Task], examples: Sequence[Example], cleaning: Cleaning) -> Tokenizer:
    assert recipe.tokenizer is not None
    texts = (
        cleaning(example.row[field.name])
        for example in examples
        for field in task.inputs
        if field.dtype == "BYTES" and field.name in example.row
    )
    return train(recipe.tokenizer, texts)
