"""A version to a store and back: an archive, and its digest beside it, which is written last and asked for first."""

from __future__ import annotations

import fcntl
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from bundles import archive, verification
from bundles.place import VERSION
from bundles.store import Store, StoreError, open_store
from serving import model_config
from serving.errors import AlreadyExists, BundleError, NotFound, NotReady
from serving.manifest import MANIFEST
from serving.staging import backend_in, publish, staged

DIGEST = ".sha256"
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Transferred:
    """Where a version is now; ``new`` is false where it was there already."""

    place: str
    new: bool


def push(folder: Path, url: str) -> Transferred:
    """Pack a version directory into the folder ``url`` of a store, as ``NAME-VERSION.tar.gz`` and its digest.

    Raises BundleError for a version that does not match its digests or is in quarantine, AlreadyExists where the store
    has another one of that number: what was published does not change.
    """
    store = open_store(url)
    name = f"{folder.parent.name}-{folder.name}.tar.gz"
    target = store.joined(name)
    with tempfile.TemporaryDirectory(prefix="downstream-bundle-") as temporary:
        packed = Path(temporary) / name
        found = archive.pack(folder, packed)
        there = target.joined(DIGEST).read_short()
        if there is not None:
            if _digest(target, there) != found:
                raise AlreadyExists(
                    f"{target.url}: is there with other content, and what is published does not change; pull it and "
                    f"export again, which gives the next version, or push to another folder"
                )
            return Transferred(target.url, new=False)
        target.upload(packed)
    # Last: an archive without it was not pushed to its end, and is not pulled.
    target.joined(DIGEST).write_short(f"{found}  {name}\n")
    return Transferred(target.url, new=True)


def pull(url: str, repository: Path, key: Path | None = None) -> Transferred:
    """Fetch an archive, verify all of it on this host, and put it into a repository; the version directory.

    An interrupted download goes on where it ended. Raises BundleError for what does not verify, AlreadyExists where
    the repository has another version of that number; then the repository is as it was.
    """
    source = open_store(url)
    line = source.joined(DIGEST).read_short()
    if line is None:
        raise NotFound(f"{url}: has no {DIGEST} beside it, so nothing was pushed there, or not to its end; push again")
    digest = _digest(source, line)
    repository.mkdir(parents=True, exist_ok=True)
    partial = repository / f".{digest[:16]}.pulling"
    with _alone(partial) as file:
        resumed = file.tell() > 0
        _download(source, file)
        try:
            if archive.digest(partial) != digest:
                raise BundleError(f"{url}: does not match its {DIGEST}: it was changed, or damaged on the way")
            transferred = _install(partial, repository, key, resumed)
        except (BundleError, AlreadyExists):
            partial.unlink()
            raise
        partial.unlink()
    return transferred


@contextmanager
def _alone(partial: Path) -> Iterator[IO[bytes]]:
    """A partial download, opened to go on. Raises NotReady while another process is at it."""
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotReady(f"{partial}: another process is pulling this; wait for it") from error
        yield file


def _download(source: Store, file: IO[bytes]) -> None:
    """Append what is missing."""
    size = source.size()
    if file.tell() > size:
        file.truncate(0)
    there = file.seek(0, 2)
    with tqdm(desc="downloading", unit="B", unit_scale=True, total=size, initial=there) as bar:
        for piece in source.read_from(there):
            file.write(piece)
            bar.update(len(piece))
    file.flush()
    if file.tell() < size:
        raise StoreError(f"{source.url}: ended after {file.tell()} of {size} bytes; run it again to go on from there")


def _install(packed: Path, repository: Path, key: Path | None, resumed: bool) -> Transferred:
    """Put the version of an archive into its place, once it has proved itself beside it.

    ``resumed`` where a pull of this archive was interrupted before: perhaps with the version there, and not its
    configuration, so that Triton would read the labels of the version before.
    """
    name, version = archive.version_in(packed)
    model = repository / name
    final = model / str(version)
    _check_place(model)
    existed = final.exists()
    with staged(model, version) as staging:
        folder = archive.unpack(packed, staging)
        if existed:
            _check_same(folder, final)
        else:
            verification.require(folder, key)
            publish(folder, final)
        # Last: until it is there, no server takes the directory for a model. One that a newer version brought stays.
        config = model / model_config.FILE
        if not config.exists() or ((resumed or not existed) and version == _latest(model)):
            publish(folder.parent / model_config.FILE, config)
    if existed:
        _check_intact(final, key)
    return Transferred(str(final), new=not existed)


def _check_place(model: Path) -> None:
    found = backend_in(model)
    if found not in (None, "", model_config.BACKEND):
        raise AlreadyExists(f"{model}: is a model of another Triton backend, {found!r}; pull into another repository")


def _check_same(folder: Path, final: Path) -> None:
    """Raise AlreadyExists where the version that is there is another one than that in a folder."""
    try:
        same = (final / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    except OSError:
        same = False
    if not same:
        raise AlreadyExists(
            f"{final}: is there and is another bundle; pull into another repository, or move it away first"
        )


def _check_intact(final: Path, key: Path | None) -> None:
    try:
        verification.require(final, key)
    except BundleError as error:
        raise BundleError(f"{final}: is there, but {error}; remove it and pull again") from error


def _latest(model: Path) -> int:
    return max(int(path.name) for path in model.iterdir() if VERSION.fullmatch(path.name))


def _digest(source: Store, line: str) -> str:
    """The digest in a line as ``sha256sum`` writes it. Raises BundleError."""
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if not SHA256.fullmatch(word):
        raise BundleError(f"{source.url}{DIGEST}: {line[:80]!r} is no SHA-256 digest; remove it and push again")
    return word
