"""``downstream predict``: rows of a file to lines of JSON, in order, whatever is wrong with some of them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import predict
from serving.predict import FAULTY, SOME_FAILED, main
from serving.tasks.text_classification import TextClassification
from tests.serving.bundles import LABELS, answered, write_bundle


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version directory whose answers tell texts apart."""
    return write_bundle(tmp_path_factory.mktemp("repository"))


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def logits(version: Path, text: str, pair: str | None = None) -> Any:
    """The right answer, computed without engine and scheduler."""
    task = TextClassification.open(version / "assets")
    row = {"text": text} | ({"text_pair": pair} if pair else {})
    return pytest.approx(answered(task, "stub", version / "model.json", row)["logits"].tolist(), abs=1e-6)


def predicted(model: Path, name: str, content: str | bytes, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the lines of the output for an input of that name."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code = main([str(model), "--input", name, "--output", "out.jsonl", *options])
    with Path("out.jsonl").open(encoding="utf-8") as lines:
        return code, [json.loads(line) for line in lines]


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main([str(word) for word in argv]) == FAULTY == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


TEXTS = ["I want my money back", "thanks", "a longer text, with a comma", "何時ですか"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)),
        ("rows.csv", "id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(TEXTS))),
        ("rows.TSV", "id\ttext\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(TEXTS))),
        ("rows.txt", "\n".join(TEXTS)),
        ("rows.jsonl", "\ufeff" + "".join(json.dumps({"text": text}) + "\n\n" for text in TEXTS)),
        ("rows.csv", "\ufeff" + "text\r\n" + "".join(f'"{text}"\r\n' for text in TEXTS)),
    ],
    ids=["jsonl", "csv", "tsv", "txt", "jsonl with a byte order mark", "csv with a byte order mark"],
)
def test_every_format_gives_the_same_answers_in_order(version: Path, name: str, content: str) -> None:
    code, lines = predicted(version, name, content)
    assert code == 0
    assert [line["logits"] for line in lines] == [logits(version, text) for text in TEXTS]
    for line in lines:
        assert line.keys() == {"label", "score", "probabilities", "logits"}
        assert line["label"] in LABELS
        assert line["score"] == max(line["probabilities"])


def test_many_more_rows_than_are_in_flight_keep_their_order(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "IN_FLIGHT", 8)
    texts = [("ab" * (7 * index % 25 + 1))[: 7 * index % 25 + 1] for index in range(200)]
    code, lines = predicted(version, "rows.txt", "\n".join(texts))
    assert code == 0
    expected = {text: logits(version, text) for text in set(texts)}
    assert [line["logits"] for line in lines] == [expected[text] for text in texts]


def test_standard_input_is_one_text_a_line(
    version: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("first\n\nlast"))
    assert main([str(version), "--input", "-"]) == SOME_FAILED
    first, second, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["logits"] == logits(version, "first")
    assert second["error"].startswith("-:2: text: is empty")
    assert last["logits"] == logits(version, "last")


def test_a_bad_row_fails_alone_and_says_where_it_stands(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = '{"text": "good"}\nnot json\n["list"]\n\n{"txt": "b"}\n{"text": ""}\n{"text": 5}\n{"text": "last"}\n'
    code, lines = predicted(version, "rows.jsonl", content)
    assert code == SOME_FAILED == 1
    assert "5 rows failed" in capsys.readouterr().err
    assert [line.get("error", "fine").split(": ")[0] for line in lines] == [
        "fine", "rows.jsonl:2", "rows.jsonl:3", "rows.jsonl:5", "rows.jsonl:6", "rows.jsonl:7", "fine",
    ]  # fmt: skip
    errors = [line["error"] for line in lines[1:-1]]
    for error, fragment in zip(
        errors,
        ["not valid JSON", "must be a JSON object", "the columns are txt: use --columns text=", "empty", "not a text"],
        strict=True,
    ):
        assert fragment in error
    assert lines[0]["logits"] == logits(version, "good")
    assert lines[-1]["logits"] == logits(version, "last")


def test_a_bad_record_of_csv_fails_alone_with_the_line_it_begins_at(version: Path) -> None:
    content = 'text,id\n"two\nlines",1\nno quotes, here,2\n\n,3\nlast,4\n'
    code, lines = predicted(version, "rows.csv", content)
    assert code == SOME_FAILED
    assert [line.get("error", "fine")[:11] for line in lines] == ["fine", "rows.csv:4:", "rows.csv:6:", "fine"]
    assert "more fields than the 2 of the header; quote the text" in lines[1]["error"]
    assert lines[0]["logits"] == logits(version, "two\nlines")


def test_columns_with_other_names_are_mapped(version: Path) -> None:
    content = '{"body": "a", "question": "b"}\n{"body": "a"}\n'
    code, (both, one) = predicted(version, "rows.jsonl", content, "--columns", "text=body", "text_pair=question")
    assert code == 0
    assert both["logits"] == logits(version, "a", "b")
    assert one["logits"] == logits(version, "a")


def test_kept_columns_are_copied_beside_answers_and_errors(version: Path) -> None:
    code, lines = predicted(version, "rows.csv", "id,text,x\n7,fine,1\n8,,2\n", "--keep", "id", "x")
    assert code == SOME_FAILED
    assert [line["input"] for line in lines] == [{"id": "7", "x": "1"}, {"id": "8", "x": "2"}]
    assert "label" in lines[0]
    assert "error" in lines[1]


def test_a_model_directory_stands_for_the_version_that_would_be_served(version: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for number, labels in ((1, ("a", "b", "c")), (2, ("x", "y", "z")), (10, ("k", "l", "m"))):
        write_bundle(repository, "intent", number, labels=labels)
    assert predicted(repository / "intent", "rows.txt", "text")[1][0]["label"] in "klm"
    assert predicted(repository / "intent" / "1", "rows.txt", "text")[1][0]["label"] in "abc"


def test_an_empty_file_has_no_answers(version: Path) -> None:
    for name in ("rows.jsonl", "rows.csv", "rows.txt"):
        assert predicted(version, name, "") == (0, [])


def test_a_missing_or_unknown_input_is_told(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file, got 'none.csv'" in refused(capsys, version, "--input", "none.csv")
    Path("rows.json").write_text("[]")
    assert "unknown format, got 'rows.json'" in refused(capsys, version, "--input", "rows.json")


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.txt"])
def test_a_file_that_is_not_utf8_is_told_before_anything_is_written(
    version: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    Path(name).write_bytes(b"text\n" * 3000 + b"caf\xe9\n")
    assert f"{name}: not UTF-8" in refused(capsys, version, "--input", name, "--output", "out.jsonl")
    assert not Path("out.jsonl").exists()


def test_a_quote_that_is_never_closed_is_told_before_anything_is_written(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.csv").write_text('id,text\n1,a\n2,"b\n3,c\n')
    assert "rows.csv:3: not valid CSV" in refused(capsys, version, "--input", "rows.csv", "--output", "out.jsonl")
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(("option", "told"), [("body", "must be FIELD=COLUMN"), ("txt=body", "no such field")])
def test_a_wrong_mapping_is_told(version: Path, capsys: pytest.CaptureFixture[str], option: str, told: str) -> None:
    Path("rows.txt").write_text("a")
    assert told in refused(capsys, version, "--input", "rows.txt", "--columns", option)


def test_a_missing_or_damaged_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.txt").write_text("a")
    assert "no such folder" in refused(capsys, tmp_path / "none", "--input", "rows.txt")
    (tmp_path / "empty").mkdir()
    assert "config.pbtxt" in refused(capsys, tmp_path / "empty", "--input", "rows.txt")
    damaged = write_bundle(tmp_path, "damaged", damaged="golden.jsonl")
    assert "golden.jsonl was changed" in refused(capsys, damaged, "--input", "rows.txt")
    wrong = write_bundle(tmp_path, "wrong", wrong_golden=True)
    assert "golden rows are not reproduced" in refused(capsys, wrong, "--input", "rows.txt")


def test_an_output_that_cannot_be_written_is_told(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.txt").write_text("a")
    assert "No such file" in refused(capsys, version, "--input", "rows.txt", "--output", "none/out.jsonl")


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), max_size=8))
def test_any_texts_have_one_line_each_in_their_order(version: Path, texts: list[str]) -> None:
    rows = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    code, lines = predicted(version, "rows.jsonl", rows)
    assert len(lines) == len(texts)
    failed = 0
    for number, (line, text) in enumerate(zip(lines, texts, strict=True), 1):
        if "error" in line:
            failed += 1
            assert line["error"].startswith(f"rows.jsonl:{number}: text: is empty after cleaning")
        else:
            assert line["logits"] == logits(version, text)
    assert code == (SOME_FAILED if failed else 0)


def test_the_input_is_not_overwritten_by_the_output(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.txt").write_text("thanks\n")
    Path("link.txt").symlink_to("rows.txt")
    assert "--output: is the input file itself" in refused(
        capsys, version, "--input", "rows.txt", "--output", "link.txt"
    )
    assert Path("rows.txt").read_text() == "thanks\n"
