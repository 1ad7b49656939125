"""One archive of one version: the same inputs give the same bytes, and a stranger's is opened without harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

from serving import model_config
from serving.bundle import open_bundle
from serving.errors import BundleError, InvalidInput, fault, shown
from serving.manifest import MANIFEST, SIGNATURE

SUFFIXES = (".tar.gz", ".tar")
# Fixed, since another level gives other bytes.
LEVEL = 6
# Of a stranger's archive, so that a few bytes of it cannot fill the disk or the memory.
LARGEST, MOST = 64 * 2**30, 10_000
LARGEST_READ = 2**21
COPIED_AT_ONCE = 2**20

# NAME/config.pbtxt and NAME/VERSION/...; which parts a path may have is checked one by one.
LAYOUT = re.compile(rf"({model_config.NAME.pattern})/(?:{re.escape(model_config.FILE)}|([1-9][0-9]{{0,17}})/.+)", re.S)
LABELS_OF = re.compile(rb'(label_filename:\s*")[0-9]+/')
# What tarfile and what is below it raise for bytes that are no archive, or half of one.
DAMAGES = (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, ValueError, OverflowError, RecursionError)


def check_target(target: Path) -> None:
    """Raise InvalidInput for a file name that says no format, or one that cannot be written."""
    if not target.name.endswith(SUFFIXES):
        raise InvalidInput(fault("-o", "says no format", target.name, f"end it with {' or '.join(SUFFIXES)}"))
    if not target.parent.is_dir() or target.is_dir():
        raise InvalidInput(fault("-o", "is no place for a file", str(target), "give a file in a folder that exists"))


def pack(folder: Path, target: Path) -> str:
    """Write a version directory and its model's ``config.pbtxt`` as one archive; its SHA-256 in hexadecimal.

    The suffix of ``target`` chooses the format. Names are sorted; times, owners and modes are fixed; directories have
    no entry. The file is whole or absent. Raises BundleError where the bundle does not match its digests, and where it
    is in quarantine.
    """
    check_target(target)
    bundle = open_bundle(folder)
    sibling = target.with_name(f".{target.name}.writing")
    try:
        names = [MANIFEST, *bundle.manifest.files, *([SIGNATURE] if (folder / SIGNATURE).is_file() else [])]
        with (
            sibling.open("wb") as file,
            _compressed(file, target) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add(tar, folder, names)
        sibling.replace(target)
    finally:
        sibling.unlink(missing_ok=True)
    return digest(target)


def unpack(archive: Path, folder: Path) -> Path:
    """Write what is in an archive below an empty folder; the version directory, its digests not yet verified.

    Raises BundleError for an archive that is damaged, too large, or holds anything but the files of one version: a
    name outside it, a link, a device. What was written before is the caller's to remove.
    """
    written: set[str] = set()
    with _opened(archive) as (tar, members):
        for name, member in members:
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                target = path.open("xb")
            except (FileExistsError, NotADirectoryError) as error:
                raise BundleError(f"{archive}: member {shown(name)} is there twice; pack the bundle again") from error
            with target, _content(tar, member) as source:
                shutil.copyfileobj(source, target, COPIED_AT_ONCE)
            written.add(name)
    places = {"/".join(name.split("/")[:2]) for name in written}
    numbered = [place for place in places if not place.endswith(model_config.FILE)]
    if len(places) != 2 or len(numbered) != 1:
        raise BundleError(
            f"{archive}: is incomplete: holds {', '.join(sorted(places)) or 'nothing'} only; pack the bundle again"
        )
    return folder / numbered[0]


def version_in(archive: Path) -> tuple[str, int]:
    """Name and version of the bundle in an archive, as its first files say. Raises BundleError as unpack does."""
    with _opened(archive) as (_, members):
        for name, _ in members:
            model, version = LAYOUT.fullmatch(name).groups()  # type: ignore[union-attr]
            if version:
                return model, int(version)
    raise BundleError(f"{archive}: holds no version of a model; pack the bundle again")


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _compressed(file: IO[bytes], target: Path) -> Iterator[IO[bytes]]:
    if target.name.endswith(".gz"):
        # No name and no time in the header.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0) as stream:
            yield stream  # type: ignore[misc]
    else:
        yield file


def _add(tar: tarfile.TarFile, folder: Path, files: list[str]) -> None:
    model = folder.parent
    # A model's configuration names the labels of its latest version; here this one is the only one.
    config = LABELS_OF.sub(rb"\g<1>" + folder.name.encode() + b"/", (model / model_config.FILE).read_bytes())
    sources: dict[str, Path | bytes] = {f"{model.name}/{model_config.FILE}": config}
    sources |= {f"{model.name}/{folder.name}/{name}": folder / name for name in files}
    for name, source in sorted(sources.items()):
        member = tarfile.TarInfo(name)
        member.mode = 0o644
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as content:
            member.size = content.seek(0, io.SEEK_END)
            content.seek(0)
            tar.addfile(member, content)


class _Bounded:
    """A file of which nobody reads much at once: a header that asks for gigabytes is refused before it has them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[tarfile.TarFile, Iterator[tuple[str, tarfile.TarInfo]]]]:
    """An archive and its members, each checked before it is given. Raises BundleError."""
    try:
        with archive.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream: Any = gzip.GzipFile(fileobj=file) if packed else file
            with closing(stream), tarfile.open(fileobj=_Bounded(stream), mode="r:") as tar:  # type: ignore[call-overload]
                yield tar, _checked(archive, tar, stream)
    except DAMAGES as error:
        raise BundleError(f"{archive}: is damaged, or no archive of a bundle ({error}); fetch it again") from error


def _checked(archive: Path, tar: tarfile.TarFile, stream: IO[bytes]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Name and header of every file. Raises BundleError for what no bundle holds, before anything of it is read."""
    total, model, version = 0, "", ""
    for number, member in enumerate(tar):
        total += member.size
        problem = _problem(member)
        if not problem and not member.isdir():
            found = LAYOUT.fullmatch(member.name).groups()  # type: ignore[union-attr]
            model, version = model or found[0], version or found[1] or ""
            if found not in ((model, version), (model, None)):
                problem = f"is of another version than the files before it ({model}/{version})"
        if member.size < 0 or total > LARGEST or number >= MOST:
            problem = f"makes it more than {MOST} files or {LARGEST / 2**30:.0f} GiB"
        if problem:
            raise BundleError(
                f"{archive}: member {shown(member.name)} {problem}, which no bundle needs; nothing was unpacked from it"
            )
        if not member.isdir():
            yield member.name, member
    # What is behind the last member is zeros, and the check sum of gzip, which is compared only at its end.
    if stream.read(LARGEST_READ).strip(b"\0"):
        raise tarfile.ReadError("it goes on after its end")


def _problem(member: tarfile.TarInfo) -> str:
    """Why a member may not be unpacked; empty where it may."""
    parts = member.name.split("/")
    if ".." in parts or member.name.startswith("/") or "\\" in member.name:
        return "is outside the bundle"
    if "" in parts or "." in parts or not member.name.isprintable() or max(map(_length, parts)) > 255:
        return "has a name that is no plain path"
    if member.isdir():
        return ""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        return "is a link, a device or another special file"
    if not LAYOUT.fullmatch(member.name):
        return f"is neither NAME/{model_config.FILE} nor below NAME/VERSION/"
    try:
        tarfile.data_filter(member, "/nowhere")
    except tarfile.FilterError as error:
        return f"is refused ({error})"
    return ""


def _length(part: str) -> int:
    return len(part.encode("utf-8", "surrogateescape"))


@contextmanager
def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[IO[bytes]]:
    source = tar.extractfile(member)
    assert source is not None, "a regular file has content"
    with source:
        yield source
