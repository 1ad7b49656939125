"""Where archives are kept, by URL: whatever fsspec has a filesystem for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.callbacks import TqdmCallback
from fsspec.core import url_to_fs

from serving.errors import DownstreamError, InvalidInput, NotFound, fault

# Where an object appears whole or not at all; elsewhere it is written under another name first. They have no folders.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "hf"}
# A digest file is a line; more is not read of one.
SHORT = 4096
PIECE = 2**20


class StoreError(DownstreamError):
    """A store cannot be reached, or did not do what it was asked for."""


@dataclass(frozen=True)
class Store:
    """One place in a store: ``path`` is ``url`` as its filesystem spells it."""

    filesystem: Any
    path: str
    url: str

    def joined(self, name: str) -> Store:
        """A name below this place, or one that only has an ending more where it begins with a dot."""
        slash = "" if name.startswith(".") else "/"
        return Store(self.filesystem, f"{self.path.rstrip('/')}{slash}{name}", f"{self.url.rstrip('/')}{slash}{name}")

    def size(self) -> int:
        """Bytes of the object. Raises NotFound or StoreError."""
        with _reached(self.url):
            return int(self.filesystem.size(self.path))

    def read_short(self) -> str | None:
        """The text of a small object; None where there is none. Raises StoreError."""
        try:
            with _reached(self.url):
                return bytes(self.filesystem.cat_file(self.path, start=0, end=SHORT)).decode("utf-8", "replace")
        except NotFound:
            return None

    def write_short(self, text: str) -> None:
        """Write a small object in one step. Raises StoreError."""
        with _reached(self.url):
            self.filesystem.pipe_file(self.path, text.encode())

    def read_from(self, start: int) -> Iterator[bytes]:
        """The object from a byte on, piece by piece. Raises NotFound or StoreError."""
        with _reached(self.url), self.filesystem.open(self.path, "rb") as source:
            source.seek(start)
            while piece := source.read(PIECE):
                yield piece

    def upload(self, source: Path) -> None:
        """Write a file to this place, whole or not at all, with a progress bar. Raises StoreError."""
        protocols = self.filesystem.protocol
        whole = OBJECT_STORES & set([protocols] if isinstance(protocols, str) else protocols)
        folder, _, name = self.path.rpartition("/")
        target = self.path if whole else f"{folder}/.{name}.{secrets.token_hex(4)}.uploading"
        bar = TqdmCallback(tqdm_kwargs={"desc": "uploading", "unit": "B", "unit_scale": True})
        with _reached(self.url), bar:
            try:
                if not whole:
                    self.filesystem.makedirs(folder, exist_ok=True)
                self.filesystem.put_file(str(source), target, callback=bar)
                if not whole:
                    self.filesystem.mv(target, self.path)
            except BaseException:
                with suppress(Exception):
                    if not whole:
                        self.filesystem.rm(target)
                raise


def open_store(url: str) -> Store:
    """The place of a URL. Raises InvalidInput that names the package which a kind of store needs."""
    try:
        filesystem, path = url_to_fs(url)
    except ImportError as error:
        package = getattr(error.__cause__, "name", None) or error.name or str(error)
        raise InvalidInput(
            fault("URL", f"needs the package {package}, which is not installed", url, f"pip install {package}")
        ) from error
    except ValueError as error:
        raise InvalidInput(fault("URL", f"no store is known by it ({error})", url, "see bundle push --help")) from error
    except Exception as error:
        raise StoreError(f"{url}: cannot be reached ({_reason(error)})") from error
    return Store(filesystem, path, url)


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """What a store's own library raises, as ours: every one has exceptions of its own."""
    try:
        yield
    except DownstreamError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{url}: there is no such object; is the address right?") from error
    except Exception as error:
        raise StoreError(
            f"{url}: cannot be reached ({_reason(error)}); check address, network and credentials"
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
