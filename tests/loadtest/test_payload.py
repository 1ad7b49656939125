"""Rows of users' files become requests, and faults in them are told with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.payload import batches, read, sentences
from loadtest.target import CannotStart, Column

TEXT = (Column("text", "BYTES", (-1,)), Column("text_pair", "BYTES", (-1,)))
MIXED = (Column("text", "BYTES", (-1,)), Column("weight", "FP32", (-1, 2)))


def written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_every_kind_of_file_gives_the_inputs_of_the_model_only(tmp_path: Path) -> None:
    jsonl = written(tmp_path / "rows.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b\u2028c", "text_pair": null}\n')
    assert read(jsonl, TEXT) == [{"text": "a"}, {"text": "b\u2028c"}]
    assert read(written(tmp_path / "rows.csv", '\ufefftext,label\n"a, ""b""",1\n'), TEXT) == [{"text": 'a, "b"'}]
    assert read(written(tmp_path / "rows.txt", "a\n\n b \n"), TEXT) == [{"text": "a"}, {"text": "b"}]
    found = read(written(tmp_path / "mixed.csv", 'text,weight\na,"[1, 2.5]"\n'), MIXED)
    assert found == [{"text": "a", "weight": [1, 2.5]}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", '{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("rows.jsonl", '["a"]\n', "line 1 is not an object"),
        ("rows.jsonl", '{"txet": "a"}\n', "line 1 has no input of the model; the inputs are text, text_pair"),
        ("rows.jsonl", "\n", "holds no rows"),
        ("rows.csv", "sentence,label\na,1\n", "line 2 has no input of the model"),
        ("rows.parquet", "", "give one of .jsonl, .csv, .txt"),
    ],
)
def test_faults_name_the_file_and_the_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(CannotStart, match="--input") as raised:
        read(path, TEXT)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_missing_and_unreadable_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="No such file"):
        read(tmp_path / "rows.txt", TEXT)
    (tmp_path / "rows.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CannotStart, match="not UTF-8 at byte 3"):
        read(tmp_path / "rows.txt", TEXT)


def test_text_file_for_a_model_without_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="takes no text"):
        read(written(tmp_path / "rows.txt", "a"), [Column("pixels", "FP32", (-1, 4))])


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers())
def test_every_row_is_sent_in_full_requests_and_as_often_as_the_others(count: int, size: int, seed: int) -> None:
    made = batches([{"text": str(number)} for number in range(count)], TEXT, size, seed)
    assert all(tensor.array.shape == (size,) for batch in made for tensor in batch)
    sent = np.concatenate([tensor.array for batch in made for tensor in batch]).tolist()
    often = [sent.count(str(number)) for number in range(count)]
    assert min(often) >= 1
    assert max(often) - min(often) <= 1


def test_order_is_drawn_from_the_seed() -> None:
    rows = [{"text": str(number)} for number in range(50)]

    def order(seed: int) -> list[str]:
        texts: list[str] = batches(rows, TEXT, 50, seed)[0][0].array.tolist()
        return texts

    assert order(1) == order(1) != order(2)
    assert order(1) != sorted(order(1), key=int)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "a"}, {"text": "a", "weight": [1, 2]}], "must have the same inputs; give --rows 1"),
        ([{"text": 3}, {"text": 3}], "input 'text' is BYTES"),
        ([{"text": "\ud83d"}, {"text": "\ud83d"}], "input 'text' is BYTES"),
        ([{"weight": [1, 2]}, {"weight": [1]}], "input 'weight' is FP32 [-1, 2]"),
        ([{"weight": ["x", "y"]}, {"weight": [1, 2]}], "input 'weight' is FP32 [-1, 2]"),
    ],
)
def test_rows_that_make_no_request_are_told(rows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(CannotStart) as raised:
        batches(rows, MIXED, 2, 0)
    assert said in str(raised.value)


def test_made_up_texts_are_of_mixed_length_and_repeat_with_the_seed() -> None:
    rows = sentences(TEXT, 3)
    assert rows == sentences(TEXT, 3) != sentences(TEXT, 4)
    lengths = [len(row["text"].split()) for row in rows]
    assert min(lengths) >= 5
    assert max(lengths) <= 120
    assert max(lengths) > 10 * min(lengths)
    assert set(rows[0]) == {"text"}


def test_nothing_is_made_up_for_numbers() -> None:
    with pytest.raises(CannotStart, match=r"weight \(FP32 \[-1, 2\]\); give them with --input"):
        sentences(MIXED, 0)
