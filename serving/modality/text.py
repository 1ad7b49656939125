"""One text, or a pair, to token ids: `tokenizers` and numpy only, the same in training and in serving."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from serving.errors import BundleError, InvalidInput, fault
from serving.modality.cleaning import Cleaning
from serving.tensors import Array, Field

TOKENIZER = "tokenizer.json"
SETTINGS = "text.json"
LONGEST_TEXT = 2**21
PAIR_USES = ("never", "sometimes", "always")

_DOCS = {
    "input_ids": "Token ids, special ones included.",
    "attention_mask": "1 for a token, 0 for padding.",
    "token_type_ids": "0 for the first text, 1 for the second.",
}
_ATTRIBUTES = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


@dataclass(frozen=True)
class TextSettings:
    """How text becomes token ids; frozen when the model is trained.

    ``max_length`` is in tokens, special ones included. ``arrays`` are the graph inputs the model's family takes, a
    subset of input_ids, attention_mask and token_type_ids. ``pad_id`` fills shorter rows of a batch. ``pair`` says
    whether the rows it was trained on had a second text: never, sometimes or always.
    """

    max_length: int
    arrays: tuple[str, ...]
    pad_id: int
    pair: str = "sometimes"
    cleaning: Cleaning = Cleaning()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for ``assets/text.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TextSettings:
        """The inverse of to_json."""
        if value["pair"] not in PAIR_USES:
            raise ValueError(f"pair must be one of {', '.join(PAIR_USES)}, got {value['pair']!r}")
        return cls(
            max_length=int(value["max_length"]),
            arrays=tuple(value["arrays"]),
            pad_id=int(value["pad_id"]),
            pair=value["pair"],
            cleaning=Cleaning(**value["cleaning"]),
        )


class TextEncoder:
    """Cleans, tokenizes and truncates one row; never pads, since padding belongs to the batch."""

    def __init__(self, tokenizer: Tokenizer, settings: TextSettings) -> None:
        # Set once, here: changing truncation or padding later is not safe while other threads encode. Truncation is
        # ours: that of the tokenizer keeps every piece it cut off, for a pair in all combinations, which is gigabytes.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.settings = settings
        largest = {"input_ids": tokenizer.get_vocab_size() - 1}
        self.fields = tuple(
            Field(
                name,
                "INT64",
                ("length",),
                _DOCS[name],
                pad=settings.pad_id if name == "input_ids" else 0,
                bounds=(0, largest.get(name, 1)),
            )
            for name in settings.arrays
        )

    @classmethod
    def open(cls, assets: Path) -> TextEncoder:
        """Read ``tokenizer.json`` and ``text.json``. Raises BundleError when one is missing or not readable."""
        try:
            settings = TextSettings.from_json(json.loads((assets / SETTINGS).read_text("utf-8")))
            tokenizer = Tokenizer.from_file(str(assets / TOKENIZER))
        except Exception as error:  # tokenizers raises bare Exception
            raise BundleError(f"{assets}: cannot read {TOKENIZER} and {SETTINGS}: {error!r}") from error
        return cls(tokenizer, settings)

    def encode(self, text: str, pair: str | None = None) -> dict[str, Array]:
        """Token arrays of one row, each INT64 of shape [length]. Raises InvalidInput when nothing is left of a text."""
        encoding = self._tokenizer.encode(
            self._cleaned("text", text), None if pair is None else self._cleaned("text_pair", pair)
        )
        if not encoding.ids:
            raise InvalidInput(fault("text", "has no tokens", text, "send a text that the tokenizer knows"))
        arrays = {name: np.array(getattr(encoding, _ATTRIBUTES[name]), np.int64) for name in self.settings.arrays}
        if len(encoding) > self.settings.max_length:
            kept = _kept(encoding.sequence_ids, self.settings.max_length)
            arrays = {name: array[kept] for name, array in arrays.items()}
        return arrays

    def _cleaned(self, field: str, text: str) -> str:
        if len(text) > LONGEST_TEXT:
            # Tokenizing takes some 170 bytes of memory per character, before anything can be cut.
            raise InvalidInput(fault(field, "is too long", len(text), f"send at most {LONGEST_TEXT} characters"))
        cleaned = self.settings.cleaning(text)
        if not cleaned or cleaned.isspace():
            raise InvalidInput(fault(field, "is empty after cleaning", text, "send at least one visible character"))
        return cleaned


def _kept(sequences: Sequence[int | None], max_length: int) -> Array:
    """Which tokens stay, BOOL of shape [tokens]: all special ones, and the first of each text; the longer is cut first.

    ``sequences`` says of each token which text it is from, None for a special one. The shares of the texts are those
    of truncation "longest_first" of `tokenizers` and so of transformers.
    """
    origin = np.array([-1 if number is None else number for number in sequences], np.int64)
    first, second = (origin == 0), (origin == 1)
    budget = max_length - int((origin == -1).sum())
    shorter, longer = sorted((int(first.sum()), int(second.sum())))
    longer = max(shorter, budget - shorter)
    if shorter + longer > budget:
        shorter, longer = budget // 2, budget - budget // 2
    shares = (longer, shorter) if first.sum() > second.sum() else (shorter, longer)
    kept: Array = (origin == -1) | (first & (first.cumsum() <= shares[0])) | (second & (second.cumsum() <= shares[1]))
    return kept
