"""Rows of files with the place of each; whatever is wrong with a file is a fault with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.faults import Faults, RecipeError
from finetune.sources import read_file, read_hub
from tests.finetune import toy


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str, content: str | bytes | None = None) -> tuple[list[tuple[dict[str, Any], str]], list[str]]:
    """The records with their places, and the faults."""
    if content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    faults = Faults()
    records = [(dict(record), place) for record, place in read_file(Path(name), faults)]
    try:
        faults.raise_any()
    except RecipeError as error:
        return records, [line.strip() for line in str(error).splitlines()[1:]]
    return records, []


def test_csv_records_carry_the_line_they_begin_at() -> None:
    records, faults = read("a.csv", 'text,label\n"two\nlines, and a comma",x\nplain,y\n\n\n"say ""hi""",z\n')
    assert records == [
        ({"text": "two\nlines, and a comma", "label": "x"}, "a.csv:2"),
        ({"text": "plain", "label": "y"}, "a.csv:4"),
        ({"text": 'say "hi"', "label": "z"}, "a.csv:7"),
    ]
    assert not faults


def test_csv_with_windows_line_ends_reads_the_same() -> None:
    records, faults = read("a.csv", 'text,label\r\n"a\r\nb",x\r\nc,y\r\n')
    assert records == [({"text": "a\r\nb", "label": "x"}, "a.csv:2"), ({"text": "c", "label": "y"}, "a.csv:4")]
    assert not faults


def test_tsv_is_separated_by_tabs() -> None:
    assert read("a.TSV", "text\tlabel\na, b\tx\n") == ([({"text": "a, b", "label": "x"}, "a.TSV:2")], [])


def test_a_csv_record_with_too_many_fields_fails_alone() -> None:
    records, faults = read("a.csv", "text,label\na,b,c\nd,e\n")
    assert records == [({"text": "d", "label": "e"}, "a.csv:3")]
    assert faults == ["a.csv:2: has more fields than the 2 of the header; quote the text"]


def test_a_csv_record_with_too_few_fields_lacks_the_last_ones() -> None:
    assert read("a.csv", "text,label\na\n")[0] == [({"text": "a", "label": None}, "a.csv:2")]


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest_of_the_file() -> None:
    records, faults = read("a.csv", 'label,text\nx,a\ny,"b\nz,c\nz,d\n')
    assert [place for _, place in records] == ["a.csv:2"]
    assert len(faults) == 1
    assert faults[0].startswith("a.csv:3: not valid CSV")


def test_an_empty_csv_is_a_fault() -> None:
    assert read("a.csv", "")[1] == ["a.csv:1: is empty; the first line must name the columns"]
    assert read("a.csv", "text,label\n") == ([], [])


def test_bad_lines_of_jsonl_fail_alone() -> None:
    records, faults = read("a.jsonl", '{"text": "a"}\n{"text": \n\n["a"]\n"b"\n{"text": "c"}\n')
    assert records == [({"text": "a"}, "a.jsonl:1"), ({"text": "c"}, "a.jsonl:6")]
    assert [fault.split(": ")[0] for fault in faults] == ["a.jsonl:2", "a.jsonl:4", "a.jsonl:5"]
    assert "one JSON object per line" in faults[0]
    assert '["a"]' in faults[1]


def test_line_separators_inside_a_json_text_end_no_line() -> None:
    row = {"text": "one\u2028two\u0085three"}
    assert read("a.jsonl", json.dumps(row, ensure_ascii=False) + "\n") == ([(row, "a.jsonl:1")], [])


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text\nä\n"), ("a.jsonl", '{"text": "ä"}\n')])
def test_a_byte_order_mark_is_no_part_of_the_first_column(name: str, content: str) -> None:
    records, faults = read(name, b"\xef\xbb\xbf" + content.encode())
    assert [record for record, _ in records] == [{"text": "ä"}]
    assert not faults


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_not_utf8_is_told_with_its_line_also_in_a_long_file(name: str) -> None:
    line = "some text,x\n" if name == "a.csv" else '{"text": "some text"}\n'
    content = (line * 5000).encode() + "café\n".encode("latin-1") + line.encode()
    (fault,) = read(name, content)[1]
    assert fault == f"{name}:5001: not UTF-8; convert the file, for example with iconv"


def test_parquet_keeps_types_and_numbers_rows() -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": [0, 1]}), "a.parquet")
    records, faults = read("a.parquet")
    assert records == [({"text": "a", "label": 0}, "a.parquet row 1"), ({"text": "b", "label": 1}, "a.parquet row 2")]
    assert not faults


def test_a_parquet_file_that_is_none_is_a_fault() -> None:
    (fault,) = read("a.parquet", "text,label\n")[1]
    assert fault.startswith("a.parquet: cannot be read")


def test_a_missing_file_says_where_it_was_looked_for() -> None:
    (fault,) = read("none.csv")[1]
    assert fault.startswith("none.csv: no such file")
    assert str(Path.cwd()) in fault


def test_an_unknown_format_lists_the_known_ones() -> None:
    (fault,) = read("a.xlsx", "x")[1]
    assert fault == "a.xlsx: unknown format '.xlsx'; the formats are .csv, .tsv, .jsonl, .parquet"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.fixed_dictionaries({"text": TEXTS, "label": TEXTS.filter(bool)}), min_size=1, max_size=6))
def test_any_rows_read_back_from_any_format(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "p.parquet")
    paths = [
        toy.write_csv(folder / "c.csv", rows),
        toy.write_csv(folder / "t.tsv", rows, "\t"),
        toy.write_jsonl(folder / "j.jsonl", rows),
        folder / "p.parquet",
    ]
    for path in paths:
        records, faults = read(str(path))
        assert [record for record, _ in records] == rows, path
        assert not faults


def test_a_hub_data_set_gives_its_labels_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_list([{"text": "a", "label": 1}, {"text": "b", "label": -1}], features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: rows)
    assert [(dict(record), place) for record, place in read_hub("some/set", None, "train")] == [
        ({"text": "a", "label": "yes"}, "some/set[train] row 1"),
        ({"text": "b", "label": -1}, "some/set[train] row 2"),
    ]


def test_a_hub_data_set_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(RecipeError, match=r"cannot load 'some/set'.*no network.*give files"):
        list(read_hub("some/set", None, "train"))
