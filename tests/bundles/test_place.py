"""What a path on the command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import archive
from bundles.place import found, label, newest, versions
from serving.errors import NotFound
from tests.serving.bundles import write_bundle


def labels(path: Path) -> list[str]:
    return [label(folder) for folder in found(path)]


@pytest.fixture
def filled(repository: Path) -> Path:
    """Two models of ours, one of another Triton backend, and what a killed writer left."""
    for name, version in [("b", 2), ("b", 10), ("a", 1)]:
        write_bundle(repository, name, version)
    (repository / "graph" / "1").mkdir(parents=True)
    (repository / "graph" / "config.pbtxt").write_text('backend: "onnxruntime"')
    (repository / "b" / ".3.writing" / "3").mkdir(parents=True)
    (repository / ".git" / "1").mkdir(parents=True)
    return repository


def test_a_repository_is_all_its_models_and_a_model_all_its_versions(filled: Path) -> None:
    assert labels(filled) == ["a/1", "b/2", "b/10"]
    assert labels(filled / "b") == ["b/2", "b/10"]
    assert labels(filled / "b" / "2") == ["b/2"]


def test_the_folder_one_stands_in_has_its_name(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(filled / "b")
    assert labels(Path(".")) == ["b/2", "b/10"]


def test_a_version_without_its_manifest_is_one_all_the_same(version: Path) -> None:
    (version / "manifest.json").unlink()
    assert labels(version) == labels(version.parent) == ["intent/1"]


def test_the_newest_of_a_model_is_meant_where_one_is(filled: Path) -> None:
    with newest(filled / "b") as folder:
        assert label(folder) == "b/10"
    with pytest.raises(NotFound, match="is a repository; name one of its models: a, b"), newest(filled):
        pass


def test_an_archive_is_its_version_and_leaves_nothing(version: Path, tmp_path: Path) -> None:
    archive.pack(version, tmp_path / "b.tar")
    with versions(tmp_path / "b.tar") as (folder,):
        assert label(folder) == "intent/1"
        assert (folder / "manifest.json").exists()
    assert not folder.exists()


def test_where_there_is_nothing_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file or folder"):
        found(tmp_path / "none")
    (tmp_path / "2024").mkdir()
    with pytest.raises(NotFound, match="holds no version of a bundle"):
        found(tmp_path)
