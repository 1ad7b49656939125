"""Texts have the lengths that the traces promise, and are the same in every run."""

from __future__ import annotations

import statistics
from pathlib import Path

from loadtest.bench import traces


def count(text: str) -> int:
    """As a tokenizer that has every word and two special tokens."""
    return len(text.split()) + 2


def test_mixed_lengths_are_log_normal_in_tokens_and_clipped() -> None:
    lengths = [count(text) for text in traces.mixed(count, longest=512).texts]
    assert statistics.median(lengths) == 24
    assert (min(lengths), max(lengths)) == (5, 256)
    # One sigma above the median of a log-normal is median * e^sigma.
    assert abs(statistics.quantiles(lengths, n=100)[83] - 24 * 2.718**0.9) < 3


def test_no_text_is_longer_than_the_model_takes() -> None:
    assert max(count(text) for text in traces.mixed(count, longest=64).texts) == 64


def test_words_of_several_tokens_never_make_a_text_too_long() -> None:
    lengths = [40, 80, 160]
    texts = traces.written(lengths, len, seed=0)
    assert all(length - 12 < len(text) <= length for length, text in zip(lengths, texts, strict=True))


def test_traces_are_the_same_in_every_run_and_not_sorted() -> None:
    once, again = (traces.mixed(count, 256).texts for _ in range(2))
    assert once == again
    assert [count(text) for text in once] != sorted(count(text) for text in once)


def test_short_trace_is_read_from_a_file_of_sentences_or_texts(tmp_path: Path) -> None:
    file = tmp_path / "dev.jsonl"
    file.write_text('{"sentence": "one two"}\n{"text": "three"}\n', "utf-8")
    trace = traces.short(count, 256, file)
    assert sorted(trace.texts) == ["one two", "three"]
    assert "dev.jsonl" in trace.about


def test_short_trace_is_made_up_where_the_file_is_not_there(tmp_path: Path) -> None:
    trace = traces.short(count, 256, tmp_path / "absent.jsonl")
    lengths = [count(text) for text in trace.texts]
    assert 23 <= statistics.median(lengths) <= 26
    assert "made-up" in trace.about
