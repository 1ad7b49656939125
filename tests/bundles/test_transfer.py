"""Push and pull: a version arrives whole and proven, or not at all, whenever it is interrupted."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bundles import archive, store, transfer, verification
from bundles.place import found, label
from bundles.store import Store, StoreError
from bundles.transfer import Transferred, pull, push
from serving import staging
from serving.bundle import digest_folder, open_bundle, read_bundle
from serving.errors import AlreadyExists, BundleError, DownstreamError, NotFound, NotReady
from tests.bundles.gates import failed_gate
from tests.serving.bundles import write_bundle

URL = "memory://store/models"
NAME = "intent-1.tar.gz"
OBJECT = f"/store/models/{NAME}"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def pushed(version: Path, memory: MemoryFileSystem) -> str:
    """The address of a version in a store."""
    push(version, URL)
    return f"{URL}/{NAME}"


def replaced(memory: MemoryFileSystem, change: Callable[[bytes], bytes], redigest: bool = False) -> None:
    """Change the archive in the store; ``redigest`` as one does who wants to hide it."""
    content = change(memory.cat_file(OBJECT))
    memory.pipe_file(OBJECT, content)
    if redigest:
        memory.pipe_file(f"{OBJECT}.sha256", f"{hashlib.sha256(content).hexdigest()}  x\n".encode())


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) if folder.exists() else []


def test_what_was_pushed_is_pulled_as_it_was(version: Path, target: Path, memory: MemoryFileSystem) -> None:
    assert push(version, URL) == Transferred(f"{URL}/{NAME}", new=True)
    assert sorted(memory.store) == [OBJECT, f"{OBJECT}.sha256"]
    assert pull(f"{URL}/{NAME}", target) == Transferred(str(target / "intent" / "1"), new=True)
    assert digest_folder(target) == digest_folder(version.parent.parent)


@pytest.mark.parametrize("kind", ["path", "url"])
def test_a_folder_is_a_store(version: Path, target: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "a store"
    url = str(folder) if kind == "path" else f"file://{folder}"
    push(version, url)
    assert everything(folder) == [NAME, f"{NAME}.sha256"]
    assert (folder / f"{NAME}.sha256").read_text() == f"{archive.digest(folder / NAME)}  {NAME}\n"
    pull(f"{url}/{NAME}", target)
    assert digest_folder(target) == digest_folder(version.parent.parent)


def test_the_same_once_more_is_nothing_to_do(version: Path, pushed: str, target: Path) -> None:
    assert not push(version, URL).new
    pull(pushed, target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert not pull(pushed, target).new
    assert {p: t for p, t in before.items() if p.is_file()} == {
        path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()
    }


def test_what_was_published_does_not_change(pushed: str, tmp_path: Path, memory: MemoryFileSystem) -> None:
    before = memory.cat_file(OBJECT)
    other = write_bundle(tmp_path / "other", labels=("a", "b", "c"))
    with pytest.raises(AlreadyExists, match="export again, which gives the next version"):
        push(other, URL)
    assert memory.cat_file(OBJECT) == before


def test_another_bundle_of_that_number_is_not_replaced(pushed: str, target: Path) -> None:
    write_bundle(target, labels=("a", "b", "c"))
    before = digest_folder(target)
    with pytest.raises(AlreadyExists, match=r"intent/1: is there and is another bundle; pull into another repository"):
        pull(pushed, target)
    assert digest_folder(target) == before


def test_a_damaged_one_of_that_number_is_told(pushed: str, target: Path) -> None:
    write_bundle(target, damaged="model.json")
    with pytest.raises(BundleError, match=r"model\.json was changed after it was written; remove it and pull again"):
        pull(pushed, target)


def test_a_model_of_another_backend_is_left_alone(pushed: str, target: Path) -> None:
    (target / "intent").mkdir(parents=True)
    (target / "intent" / "config.pbtxt").write_text('backend: "python"')
    with pytest.raises(AlreadyExists, match="another Triton backend, 'python'"):
        pull(pushed, target)
    assert everything(target) == ["intent", "intent/config.pbtxt"]


def test_the_configuration_is_that_of_the_newest_version(repository: Path, target: Path, memory: object) -> None:
    """config.pbtxt names the labels of one version, and what the newest one takes and gives."""
    for number in (1, 2, 3):
        version = write_bundle(repository, version=number, max_batch_size=number)
        push(version, URL)
        (version.parent / "config.pbtxt").unlink()
    for number, configured in [(2, 2), (1, 2), (3, 3)]:
        pull(f"{URL}/intent-{number}.tar.gz", target)
        assert f"max_batch_size: {configured}" in (target / "intent" / "config.pbtxt").read_text()
    assert [label(folder) for folder in found(target)] == ["intent/1", "intent/2", "intent/3"]


def test_without_its_digest_an_archive_is_not_there(pushed: str, target: Path, memory: MemoryFileSystem) -> None:
    memory.rm(f"{OBJECT}.sha256")
    with pytest.raises(NotFound, match=r"has no \.sha256 beside it"):
        pull(pushed, target)
    memory.pipe_file(f"{OBJECT}.sha256", b"<html>")
    with pytest.raises(BundleError, match="'<html>' is no SHA-256 digest"):
        pull(pushed, target)
    assert not target.exists()


def evil(content: bytes) -> bytes:
    """The archive, and one member more."""
    plain = io.BytesIO(gzip.decompress(content))
    with tarfile.open(fileobj=plain, mode="a") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    return gzip.compress(plain.getvalue())


def resealed(member: str, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change one file within the archive."""

    def changed(content: bytes) -> bytes:
        written = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as old,
            tarfile.open(fileobj=written, mode="w") as new,
        ):
            for header in old:
                found = old.extractfile(header).read()  # type: ignore[union-attr]
                found = change(found) if header.name == member else found
                header.size = len(found)
                new.addfile(header, io.BytesIO(found))
        return gzip.compress(written.getvalue())

    return changed


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    ("change", "redigest", "said"),
    [
        (flipped, False, r"does not match its \.sha256"),
        (lambda content: content[:-50], False, r"does not match its \.sha256"),
        (lambda content: content[:-50], True, "is damaged, or no archive"),
        (evil, True, "'../evil' is outside the bundle"),
        (resealed("intent/1/model.json", flipped), True, r"model\.json was changed after it was written"),
        (resealed("intent/1/golden.jsonl", flipped), True, r"golden\.jsonl was changed after it was written"),
        (resealed("intent/config.pbtxt", lambda content: b"backend {"), True, "configuration: "),
    ],
    ids=["flipped", "truncated", "truncated, digest made again", "evil", "graph", "golden", "configuration"],
)
def test_what_does_not_verify_leaves_no_trace(
    repository: Path, pushed: str, target: Path, memory: MemoryFileSystem,
    change: Callable[[bytes], bytes], redigest: bool, said: str, existed: bool,
) -> None:  # fmt: skip
    if existed:
        write_bundle(target, version=7)
    before = everything(target)
    replaced(memory, change, redigest)
    with pytest.raises(BundleError, match=said):
        pull(pushed, target)
    assert everything(target) == before


def test_a_version_that_answers_otherwise_is_not_pulled(
    repository: Path, target: Path, memory: MemoryFileSystem
) -> None:
    push(write_bundle(repository, wrong_golden=True), URL)
    with pytest.raises(BundleError, match="2 of 2 golden rows are not reproduced"):
        pull(f"{URL}/{NAME}", target)
    assert everything(target) == []


def test_a_damaged_version_is_not_pushed(repository: Path, memory: MemoryFileSystem) -> None:
    with pytest.raises(BundleError, match=r"model\.json was changed"):
        push(write_bundle(repository, damaged="model.json"), URL)
    assert not memory.store


def test_what_is_in_quarantine_is_not_pulled(
    repository: Path, target: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = write_bundle(repository, stated={"gates": [failed_gate("speed")]})
    with pytest.raises(BundleError, match="is in quarantine: gate speed"):
        push(version, URL)
    assert not memory.store
    # As one pushes it who does not ask.
    with monkeypatch.context() as patched:
        patched.setattr(archive, "open_bundle", read_bundle)
        push(version, URL)
    with pytest.raises(BundleError, match="intent/1: gate speed: too slow"):
        pull(f"{URL}/{NAME}", target)
    assert everything(target) == []


class Broken(Exception):
    """What a test raises, so that nothing else is taken for it."""


def after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int = 1) -> None:
    """Raise once a function has done its work for the ``call``-th time."""
    real, calls = getattr(module, name), iter(range(1, 1000))

    def broken(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        if next(calls) == call:
            raise Broken
        return result

    monkeypatch.setattr(module, name, broken)


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (archive, "digest", 1),
        (archive, "version_in", 1),
        (archive, "unpack", 1),
        (shutil, "copyfileobj", 3),
        (verification, "require", 1),
        (staging, "flush", 1),
        (transfer, "publish", 1),
        (transfer, "publish", 2),
    ],
)
def test_a_pull_that_is_interrupted_anywhere_shows_nothing_half_and_goes_on(
    repository: Path, memory: MemoryFileSystem, target: Path, monkeypatch: pytest.MonkeyPatch,
    module: Any, name: str, call: int, existed: bool,
) -> None:  # fmt: skip
    push(write_bundle(repository, version=3), URL)
    pushed, place = f"{URL}/intent-3.tar.gz", target / "intent" / "3"
    if existed:
        write_bundle(target, version=2)
    with monkeypatch.context() as patched:
        after(patched, module, name, call)
        with pytest.raises(Broken):
            pull(pushed, target)
    visible = [path for path in everything(target) if not path.startswith(".") and "/." not in path]
    if place.exists():
        open_bundle(place)
    elif not existed:
        assert visible == []
    pull(pushed, target)
    assert not [path for path in everything(target) if path.startswith(".") or "/." in path]
    assert [label(folder) for folder in found(target)] == [*(["intent/2"] if existed else []), "intent/3"]
    assert all(check.passed for check in verification.verify(place))


def test_a_pull_that_ended_before_the_configuration_is_finished_by_the_next(
    repository: Path, target: Path, memory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Triton would go on to read the labels of the version before."""
    for number in (1, 2):
        push(write_bundle(repository, version=number, max_batch_size=number), URL)
    pull(f"{URL}/intent-1.tar.gz", target)
    config = target / "intent" / "config.pbtxt"
    with monkeypatch.context() as patched:
        after(patched, transfer, "publish")
        with pytest.raises(Broken):
            pull(f"{URL}/intent-2.tar.gz", target)
    assert (target / "intent" / "2").exists()
    assert "max_batch_size: 1" in config.read_text()
    pull(f"{URL}/intent-2.tar.gz", target)
    assert "max_batch_size: 2" in config.read_text()
    config.write_text(config.read_text() + "# tuned by hand")
    pull(f"{URL}/intent-2.tar.gz", target)
    assert config.read_text().endswith("# tuned by hand")


def test_a_killed_pull_is_healed_by_the_next(pushed: str, target: Path) -> None:
    """Killed between the version and its configuration: no server takes the directory, and all of it is there."""
    pull(pushed, target)
    config = target / "intent" / "config.pbtxt"
    content = config.read_bytes()
    config.unlink()
    assert not pull(pushed, target).new
    assert config.read_bytes() == content


def test_a_download_goes_on_where_it_ended(pushed: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, starts = Store.read_from, []
    monkeypatch.setattr(store, "PIECE", 100)

    def cut(self: Store, start: int) -> Iterator[bytes]:
        starts.append(start)
        for number, piece in enumerate(real(self, start)):
            if number == 3 and len(starts) < 3:
                raise StoreError("connection lost")
            yield piece

    monkeypatch.setattr(Store, "read_from", cut)
    for _ in range(2):
        with pytest.raises(StoreError, match="connection lost"):
            pull(pushed, target)
    assert [path.suffix for path in target.iterdir()] == [".pulling"]
    pull(pushed, target)
    assert starts == [0, 300, 600]
    assert [path.name for path in target.iterdir()] == ["intent"]


def test_a_download_that_ends_early_is_told_and_goes_on(
    pushed: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Store, "read_from", lambda self, start: iter([self.filesystem.cat_file(OBJECT)[:99]]))
        with pytest.raises(StoreError, match=r"ended after 99 of \d+ bytes; run it again"):
            pull(pushed, target)
    assert pull(pushed, target).new


def test_two_pulls_of_one_archive_do_not_write_into_one_another(pushed: str, target: Path) -> None:
    target.mkdir()
    digest = MemoryFileSystem().cat_file(f"{OBJECT}.sha256").decode()
    with (target / f".{digest[:16]}.pulling").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(NotReady, match="another process is pulling this"):
            pull(pushed, target)
    assert pull(pushed, target).new


@pytest.mark.parametrize("step", ["put_file", "mv", "pipe_file"])
def test_a_push_that_is_interrupted_is_not_there_and_can_be_made_again(
    version: Path, target: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(memory, step, lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            push(version, URL)
    assert [name for name in memory.store if "uploading" in name] == []
    with pytest.raises(DownstreamError):
        pull(f"{URL}/{NAME}", target)
    assert push(version, URL).new
    assert pull(f"{URL}/{NAME}", target).new
