"""Costs from one start to the next: whole, only where nothing changed, and never a reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.cost import CostModel
from serving.cost_file import AUTO, folder, path, read, write

MODEL = CostModel(5e-4, 1.25e-4, 5e-8)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = path(tmp_path / "not there yet", backend="onnxruntime")
    assert read(file) is None
    write(file, MODEL)
    assert read(file) == MODEL
    assert list(file.parent.iterdir()) == [file], "nothing is left of the writing"


def test_file_is_another_one_where_anything_is_different(tmp_path: Path) -> None:
    one = path(tmp_path, files={"model.onnx": "sha256:1"}, runners=2)
    assert path(tmp_path, runners=2, files={"model.onnx": "sha256:1"}) == one
    assert path(tmp_path, files={"model.onnx": "sha256:2"}, runners=2) != one
    assert path(tmp_path, files={"model.onnx": "sha256:1"}, runners=4) != one


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"base": 1, "token": 1}',
        '{"base": "x", "token": 1, "square": 1}',
        '{"base": null, "token": 1, "square": 1}',
        '{"base": -1, "token": 1, "square": 1}',
        '{"base": NaN, "token": 1, "square": 1}',
        '{"base": Infinity, "token": 1, "square": 1}',
        '{"base": 0, "token": 0, "square": 0}',
        "\udcff",
    ],
)
def test_content_that_is_no_good_is_told_and_not_used(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "costs.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read(file) is None
    assert "measured anew" in caplog.text


def test_folder_that_cannot_be_written_is_told_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "costs").write_text("a file where the folder should be")
    write(path(tmp_path), MODEL)
    assert "cannot be written" in caplog.text


def test_folder_is_as_given_or_that_of_the_users_caches_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert folder("/var/cache/models", {}) == Path("/var/cache/models")
    assert folder("~/models", {}) == Path("/home/me/models")
    assert folder(AUTO, {"XDG_CACHE_HOME": "/caches"}) == Path("/caches/downstream")
    assert folder(AUTO, {"XDG_CACHE_HOME": "relative"}) == Path("/home/me/.cache/downstream")
    assert folder(AUTO, {}) == Path("/home/me/.cache/downstream")
    assert folder("", {"XDG_CACHE_HOME": "/caches"}) is None
