"""Staging: a server sees a whole folder or none, whatever happens on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.staging import backend_in, publish, staged


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_staged_is_hidden_until_it_is_published(tmp_path: Path) -> None:
    model = tmp_path / "m"
    with staged(model, 3) as staging:
        (staging / "3").mkdir()
        (staging / "3" / "graph").write_text("whole")
        assert [path for path in names(model) if not path.startswith(".")] == []
        publish(staging / "3", model / "3")
    assert names(model) == ["3"]
    assert (model / "3" / "graph").read_text() == "whole"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_no_trace_of_a_new_model(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with staged(tmp_path / "m", 1) as staging:
            (staging / "half").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_a_failure_leaves_the_versions_before_it(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)

    def fail() -> None:
        with staged(tmp_path / "m", 2):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert names(tmp_path / "m") == ["1"]


def test_what_a_killed_writer_left_is_not_taken_for_new(tmp_path: Path) -> None:
    left = tmp_path / "m" / ".1.writing"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    with staged(tmp_path / "m", 1) as staging:
        assert staging == left
        assert names(staging) == []


def test_a_published_file_replaces_the_one_before_it(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "file").write_text("old")
    publish(tmp_path / "new", tmp_path / "file")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize(
    ("content", "backend"),
    [
        ('backend: "python"', "python"),
        ('platform: "ensemble"', "ensemble"),
        ('name: "x"', ""),
        ("backend {", None),
        (None, None),
    ],
)
def test_the_backend_of_what_is_in_a_place(tmp_path: Path, content: str | None, backend: str | None) -> None:
    if content is not None:
        (tmp_path / "config.pbtxt").write_text(content)
    assert backend_in(tmp_path) == backend
    assert backend_in(tmp_path / "none") is None
