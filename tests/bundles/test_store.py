"""Stores: what their libraries raise becomes a sentence, and an object is whole or absent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bundles.store import StoreError, open_store
from serving.errors import InvalidInput, NotFound


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20000)
    return path


@pytest.fixture(params=["memory", "file", "path"])
def url(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryFileSystem) -> str:
    return {"memory": "memory://store", "file": (tmp_path / "store").as_uri(), "path": str(tmp_path / "store")}[
        request.param
    ]


def test_what_was_uploaded_is_there_and_nothing_else(url: str, file: Path) -> None:
    store = open_store(url)
    target = store.joined("a.tar")
    target.upload(file)
    assert [Path(path).name for path in store.filesystem.ls(store.path, detail=False)] == ["a.tar"]
    assert target.size() == file.stat().st_size
    for start in (0, 1, 2**20 + 1, target.size()):
        assert b"".join(target.read_from(start)) == file.read_bytes()[start:]


def test_a_short_text_is_there_or_not(url: str) -> None:
    target = open_store(url).joined("a").joined(".sha256")
    assert target.url == f"{url}/a.sha256"
    assert target.read_short() is None
    target.filesystem.makedirs(open_store(url).path, exist_ok=True)
    target.write_short("line\n")
    assert target.read_short() == "line\n"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["put_file", "mv"])
def test_an_upload_that_fails_leaves_nothing(
    url: str, file: Path, step: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(url)
    real = store.filesystem.put_file

    def fail(source: str, target: str, **options: Any) -> None:
        if step == "put_file":
            real(source, target)
        raise error

    monkeypatch.setattr(store.filesystem, step, fail)
    with pytest.raises((StoreError, KeyboardInterrupt)):
        store.joined("a.tar").upload(file)
    assert store.filesystem.find(store.path) == []


def test_where_objects_are_whole_or_absent_they_are_written_in_one_step(
    file: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "protocol", ("s3", "s3a"))
    monkeypatch.setattr(MemoryFileSystem, "mv", None)
    open_store("memory://store/a").upload(file)
    assert list(memory.store) == ["/store/a"]


@pytest.mark.parametrize(("url", "package"), [("s3://a/b", "s3fs"), ("gs://a/b", "gcsfs"), ("az://a/b", "adlfs")])
def test_a_package_that_is_missing_is_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidInput, match=f"needs the package {package}, .*; pip install {package}"):
        open_store(url)


def test_an_unknown_kind_of_store_is_told() -> None:
    with pytest.raises(InvalidInput, match="Protocol not known: nope"):
        open_store("nope://a")


def test_what_is_not_there_is_told_with_its_address(url: str) -> None:
    target = open_store(url).joined("none.tar")
    for ask in (target.size, lambda: list(target.read_from(0))):
        with pytest.raises(NotFound, match=r"none\.tar: there is no such object"):
            ask()


def test_a_store_that_cannot_be_reached_is_told(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    class EndpointError(Exception):
        """As the libraries of stores have them: no OSError."""

    def fail(*args: Any, **options: Any) -> None:
        raise EndpointError("no route to host")

    for step in ("info", "cat_file", "pipe_file", "put_file", "_open"):
        monkeypatch.setattr(memory, step, fail)
    target = open_store("memory://a/b")
    for ask in (
        target.size, target.read_short, lambda: target.write_short("x"), lambda: list(target.read_from(0)),
        lambda: target.upload(Path(__file__)),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=r"memory://a/b: cannot be reached \(EndpointError: no route to host\)"):
            ask()


def test_what_goes_wrong_here_is_not_blamed_on_the_store(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/a", b"x" * 10)

    def keep() -> None:
        for _ in open_store("memory://a").read_from(0):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        keep()
