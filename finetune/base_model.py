"""The model to start from: a folder, the hub, an installed package, or random weights of a given size."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from finetune.faults import RecipeError
from finetune.recipe import Model, Recipe, Scratch
from serving.tasks import Task

PACKAGE = "package:"
# Everything a model and its tokenizer need, and nothing that runs: no *.py, no pickled weights.
DATA_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]


def locate(model: Model) -> Path:
    """The local folder of a pretrained base, fetched from the hub if need be.

    Raises RecipeError when there is none, or when it has no ``tokenizer.json``.
    """
    assert model.base is not None
    if model.base.startswith(PACKAGE):
        folder = _in_package(model.base.removeprefix(PACKAGE))
    elif Path(model.base).is_dir():
        folder = Path(model.base)
    else:
        folder = _from_hub(model.base, model.revision)
    if not (folder / "tokenizer.json").is_file():
        raise RecipeError(
            f"{model.base!r} has no tokenizer.json; serving reads only that format. Convert it once: "
            f"AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER), and give FOLDER as model.base"
        )
    if not list(folder.glob("*.safetensors")):
        raise RecipeError(
            f"{model.base!r} has no weights as *.safetensors; convert them once with save_pretrained(FOLDER), "
            "and give FOLDER as model.base"
        )
    return folder


def _in_package(name: str) -> Path:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # the parent of a dotted name is not there; no name at all
        spec = None
    for location in (spec.submodule_search_locations or []) if spec else []:
        for config in sorted(Path(location).rglob("config.json")):
            if (config.parent / "tokenizer.json").is_file():
                return config.parent
    raise RecipeError(
        f"no installed package {name!r} with a model inside; install it with pip, or name a folder or hub"
    )


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=DATA_FILES))
    except Exception as error:  # the hub client raises many kinds; all mean that the base is not there
        raise RecipeError(
            f"{name!r} is neither a folder nor to be had from the hub ({type(error).__name__}); "
            "check the spelling and the network, or give a folder or package:NAME"
        ) from error


def read_config(recipe: Recipe, folder: Path | None, vocabulary: int, pad_id: int) -> PreTrainedConfig:
    """The configuration of the base, or of a model from scratch with ``vocabulary`` tokens."""
    if folder is not None:
        return cast(PreTrainedConfig, AutoConfig.from_pretrained(folder))
    assert recipe.model.scratch is not None
    return _scratch_config(recipe.model.scratch, recipe.max_length, vocabulary, pad_id)


def _scratch_config(scratch: Scratch, max_length: int, vocabulary: int, pad_id: int) -> PreTrainedConfig:
    try:
        config = AutoConfig.for_model(
            scratch.type,
            vocab_size=vocabulary,
            pad_token_id=pad_id,
            num_hidden_layers=scratch.layers,
            hidden_size=scratch.hidden,
            num_attention_heads=scratch.heads,
            intermediate_size=scratch.intermediate,
            hidden_dropout_prob=scratch.dropout,
            attention_probs_dropout_prob=scratch.dropout,
            # RoBERTa-like families count positions from the pad id on.
            max_position_embeddings=max_length + pad_id + 1,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"unknown model family {scratch.type!r}; try bert or roberta") from error
    for name, value in _spellings(scratch).items():
        if hasattr(config, name):
            setattr(config, name, value)
    return config


def _spellings(scratch: Scratch) -> dict[str, float]:
    """Sizes under the names that some families have for them (DistilBERT, ModernBERT)."""
    dropouts = ("dropout", "attention_dropout", "mlp_dropout", "embedding_dropout")
    return {"hidden_dim": scratch.intermediate, **dict.fromkeys(dropouts, scratch.dropout)}


def longest(config: PreTrainedConfig) -> int | None:
    """The most tokens a row may have, or None when the family sets no bound."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    # Families derived from RoBERTa keep the first pad_token_id + 1 positions for padding.
    offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return int(positions) - offset


def build(task: Task, folder: Path | None, config: PreTrainedConfig) -> PreTrainedModel:
    """The PyTorch model with the task's head: pretrained weights where the base has them, random ones elsewhere."""
    for name, value in task.model_config().items():
        setattr(config, name, value)
    auto = getattr(transformers, task.auto_class)
    if folder is None:
        return auto.from_config(config)  # type: ignore[no-any-return]
    return auto.from_pretrained(folder, config=config, use_safetensors=True)  # type: ignore[no-any-return]


def tokenizer_arrays(folder: Path, task: type[Task], config: PreTrainedConfig) -> tuple[tuple[str, ...], int]:
    """Which arrays the family's graph takes (``input_ids``, ...) and the id that pads them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    taken = forward_parameters(task, config)
    names = tuple(name for name in tokenizer.model_input_names if name in taken)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else config.pad_token_id
    return names, int(pad_id or 0)


def forward_parameters(task: type[Task], config: PreTrainedConfig) -> Mapping[str, Any]:
    """The parameters of the forward method of the model that this configuration makes.

    Raises RecipeError when the family has no model for the task.
    """
    auto = getattr(transformers, task.auto_class)
    if type(config) not in auto._model_mapping:
        raise RecipeError(f"the family {config.model_type!r} has no {task.auto_class}; try bert or roberta")
    return inspect.signature(auto._model_mapping[type(config)].forward).parameters
