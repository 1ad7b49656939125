"""System shared memory (KServe v2 extension): tensors that a client on this machine leaves in /dev/shm.

Regions are read and written as files and never mapped: a client that shrinks a mapped one would end the server.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import AlreadyExists, InvalidInput, NotFound, Unsupported
from serving.gateway.messages import Placement

ROOT = Path("/dev/shm")  # noqa: S108  (that is where POSIX shared memory lies on Linux)
# What shm_open takes, and no path out of the folder.
KEY = re.compile(r"/?[^/\0]{1,255}")


@dataclass(frozen=True)
class Region:
    """A part of a shared memory object; ``offset`` and ``size`` in bytes, ``descriptor`` that of the open object."""

    name: str
    key: str
    offset: int
    size: int
    descriptor: int


class Regions:
    """The regions that clients registered; an input has at most ``largest`` bytes. Used from the event loop only."""

    def __init__(self, *, allowed: bool, largest: int, root: Path = ROOT) -> None:
        self._allowed, self._largest, self._root = allowed, largest, root
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Open a shared memory object. Raises Unsupported where it is not allowed, AlreadyExists and InvalidInput."""
        if not self._allowed:
            raise Unsupported(
                f"Client shared memory is disabled; start the server with --allow-shared-memory to register '{name}'"
            )
        if name in self._regions:
            raise AlreadyExists(f"shared memory region '{name}' already in manager")
        if not KEY.fullmatch(key) or key.strip("/") in (".", "..") or offset < 0 or size < 1:
            raise InvalidInput(
                f"shared memory region '{name}': needs a key as '/input_data', an offset and a size of at least 1 "
                f"byte, got {key!r}, {offset} and {size}"
            )
        try:
            descriptor = os.open(self._root / key.lstrip("/"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidInput(f"Unable to open shared memory region: '{key}': {error.strerror}") from None
        if os.fstat(descriptor).st_size < offset + size:
            found = os.fstat(descriptor).st_size
            os.close(descriptor)
            raise InvalidInput(
                f"failed to register shared memory region '{name}': invalid args: {key} has {found} bytes, offset and "
                f"size ask for {offset + size}"
            )
        self._regions[name] = Region(name, key, offset, size, descriptor)

    def unregister(self, name: str = "") -> None:
        """Forget one region, or all without a name; one that is not there is no fault, as in Triton."""
        for found in [name] if name else list(self._regions):
            region = self._regions.pop(found, None)
            if region:
                os.close(region.descriptor)

    def status(self, name: str = "") -> list[dict[str, Any]]:
        """The registered regions, or the one of that name. Raises NotFound."""
        if name and name not in self._regions:
            raise NotFound(f"Unable to find system shared memory region: '{name}'")
        return [
            {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.size}
            for region in self._regions.values()
            if name in ("", region.name)
        ]

    def read(self, placement: Placement) -> bytes:
        """The bytes of an input. Raises InvalidInput for a place outside the region, NotFound for an unknown one."""
        region = self.check(placement)
        if placement.size > self._largest:
            raise InvalidInput(
                f"shared memory region '{region.name}': the tensor has {placement.size} bytes, the limit is "
                f"{self._largest}; send fewer rows at once"
            )
        data = os.pread(region.descriptor, placement.size, region.offset + placement.offset)
        if len(data) != placement.size:
            raise InvalidInput(f"shared memory region '{region.name}' was made smaller after it was registered")
        return data

    def write(self, placement: Placement, data: bytes) -> None:
        """Leave the bytes of an output. Raises InvalidInput where they do not fit."""
        region = self.check(placement)
        if len(data) > placement.size:
            raise InvalidInput(
                f"shared memory region '{region.name}': the output has {len(data)} bytes, "
                f"shared_memory_byte_size is {placement.size}"
            )
        if os.fstat(region.descriptor).st_size < region.offset + placement.offset + len(data):
            raise InvalidInput(f"shared memory region '{region.name}' was made smaller after it was registered")
        try:
            written = os.pwrite(region.descriptor, data, region.offset + placement.offset)
        except OSError as error:  # memory that the client reserved need not be there
            raise InvalidInput(f"shared memory region '{region.name}' cannot be written: {error.strerror}") from None
        if written != len(data):
            raise InvalidInput(f"shared memory region '{region.name}' has no room for {len(data)} bytes")

    def check(self, placement: Placement) -> Region:
        """The region of a place that lies in it. Raises NotFound and InvalidInput."""
        region = self._regions.get(placement.region)
        if region is None:
            raise NotFound(f"Unable to find shared memory region: '{placement.region}'")
        if placement.offset + placement.size > region.size:
            raise InvalidInput(
                f"Invalid offset + byte size for shared memory region: '{region.name}': {placement.offset} + "
                f"{placement.size} is more than its {region.size} bytes"
            )
        return region
