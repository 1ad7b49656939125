"""Text to tokens: declared arrays, truncation, pairs, and refusals that name the column."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import BundleError, InvalidInput
from serving.modality.cleaning import Cleaning
from serving.modality.text import SETTINGS, TOKENIZER, TextEncoder, TextSettings
from tests.serving.bundles import MAX_LENGTH, byte_tokenizer, write_assets

ALL = ("input_ids", "token_type_ids", "attention_mask")


def encoder(**changes: object) -> TextEncoder:
    values = {"max_length": 10, "arrays": ALL, "pad_id": 0, **changes}
    return TextEncoder(byte_tokenizer(), TextSettings(**values))  # type: ignore[arg-type]


def test_declared_arrays_come_out_as_int64_of_one_length() -> None:
    encoded = encoder().encode("abc")
    assert list(encoded) == list(ALL)
    assert {array.dtype for array in encoded.values()} == {np.dtype(np.int64)}
    assert {array.shape for array in encoded.values()} == {(5,)}
    assert encoded["attention_mask"].tolist() == [1] * 5


def test_fields_are_those_arrays_and_ids_are_padded_with_the_models_pad_id() -> None:
    fields = {field.name: field for field in encoder(pad_id=7).fields}
    assert list(fields) == list(ALL)
    assert (fields["input_ids"].pad, fields["attention_mask"].pad) == (7, 0)


def test_pair_is_marked_by_its_token_types() -> None:
    assert encoder().encode("ab", "c")["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1]


def test_long_text_is_cut_to_max_length_special_tokens_included() -> None:
    long = encoder().encode("x" * 1000)["input_ids"]
    assert len(long) == 10
    assert (long[0], long[-1]) == (1, 2)


short = st.text("ab é世.", min_size=1, max_size=30).filter(str.strip)


@settings(deadline=None)
@given(short, st.none() | short, st.integers(4, 40))
def test_what_is_kept_of_a_long_text_or_pair_is_what_tokenizers_keeps(text: str, pair: str | None, most: int) -> None:
    raw = Cleaning(control=False, unicode="none", whitespace=False)
    found = encoder(max_length=most, cleaning=raw).encode(text, pair)
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(most)
    wanted = tokenizer.encode(text, pair)
    assert found["input_ids"].tolist() == wanted.ids
    assert found["token_type_ids"].tolist() == wanted.type_ids
    assert found["attention_mask"].tolist() == wanted.attention_mask


def test_long_pair_costs_no_more_than_its_length() -> None:
    """The truncation of `tokenizers` keeps what it cut off of both texts in all combinations: a gigabyte for these."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(encoder().encode("word " * 200, "text " * 200)["input_ids"]) == 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_short_text_is_never_padded_even_if_the_tokenizer_file_asks_for_it() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.enable_padding(length=32)
    found = TextEncoder(tokenizer, TextSettings(max_length=64, arrays=("input_ids",), pad_id=0)).encode("a")
    assert len(found["input_ids"]) == 3


def test_cleaning_of_the_settings_is_applied_to_both_texts() -> None:
    loud = encoder(cleaning=Cleaning(lowercase=True)).encode("AB", "C")
    assert loud["input_ids"].tolist() == encoder().encode("ab", "c")["input_ids"].tolist()


@pytest.mark.parametrize("text", ["", "   ", "\x00\u200b"])
def test_text_with_nothing_left_is_refused_by_its_column(text: str) -> None:
    with pytest.raises(InvalidInput, match="^text: is empty after cleaning"):
        encoder().encode(text)


def test_pair_with_nothing_left_is_refused_by_its_column() -> None:
    with pytest.raises(InvalidInput, match="^text_pair: is empty after cleaning"):
        encoder().encode("a", " ")


def test_settings_survive_their_file() -> None:
    before = TextSettings(max_length=9, arrays=ALL, pad_id=3, cleaning=Cleaning(html=True, unicode="NFKC"))
    assert TextSettings.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_encoder_opened_from_assets_encodes_as_the_one_that_was_saved(tmp_path: Path) -> None:
    opened = TextEncoder.open(write_assets(tmp_path / "assets"))
    assert opened.settings.max_length == MAX_LENGTH
    assert opened.encode("Grüße")["input_ids"].tolist() == encoder().encode("Grüße")["input_ids"].tolist()


@pytest.mark.parametrize("file", [TOKENIZER, SETTINGS])
@pytest.mark.parametrize("content", [None, b"{", b"\xff", b"{}"])
def test_assets_that_are_missing_or_damaged_are_refused_with_their_folder(
    file: str, content: bytes | None, tmp_path: Path
) -> None:
    assets = write_assets(tmp_path / "assets")
    (assets / file).unlink()
    if content is not None:
        (assets / file).write_bytes(content)
    with pytest.raises(BundleError, match=str(assets)):
        TextEncoder.open(assets)


def test_empty_second_text_is_refused_and_not_taken_for_none() -> None:
    with pytest.raises(InvalidInput, match=r"^text_pair: is empty"):
        encoder().encode("a", "")
