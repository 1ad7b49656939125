"""A tiny random model of each encoder family, saved as a checkpoint's, with the arrays it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from finetune.base_model import longest
from serving.tensors import Array, Field, Graph

AUTO_CLASS = AutoModelForSequenceClassification.__name__
VOCABULARY, LABELS = 99, 3
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 140,
    "num_labels": LABELS,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"hidden_dim": 64},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    # As microsoft/deberta-v3: relative positions in buckets, no token types.
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 32,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    # Layers with local attention, narrower than the rows, between global ones.
    "modernbert": {
        "num_hidden_layers": 4,
        "local_attention": 16,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "cls_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
    },
    "mpnet": {},
}
WITH_TOKEN_TYPES = ("bert", "electra", "albert", "deberta-v2")


def save(family: str, folder: Path) -> Any:
    """The model, saved into the folder; its weights are large enough that every part of it moves the logits."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]})
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    model.save_pretrained(folder)
    return model


def graph(model: Any) -> Graph:
    """The arrays of the family."""
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if model.config.model_type in WITH_TOKEN_TYPES else []
    pads = {"input_ids": model.config.pad_token_id or 0}
    inputs = tuple(Field(name, "INT64", ("length",), pad=pads.get(name, 0)) for name in names)
    return Graph(inputs, (Field("logits", "FP32", ("labels",)),))


def row(length: int) -> dict[str, Array]:
    """One encoded row of ordinary tokens."""
    ids = np.random.default_rng(length).integers(5, VOCABULARY, length)
    return {"input_ids": ids, "attention_mask": np.ones(length, np.int64), "token_type_ids": np.zeros(length, np.int64)}


def positions(model: Any) -> int:
    """The most tokens of a row."""
    bound = longest(model.config)
    assert bound is not None
    return bound
