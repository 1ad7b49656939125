"""Messages between a worker process and the supervisor that started it, over a pair of sockets."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from serving.settings import Settings

LENGTH = struct.Struct("!Q")


class Message(NamedTuple):
    """One message; ``ident`` ties an answer to its question.

    A worker sends ``hello`` (it can be asked), ``up`` (it serves what all serve), ``ask`` (others), ``poll`` (all) and
    ``done``; the supervisor ``start``, ``leader``, ``do`` and ``answer``.
    """

    kind: str
    ident: int = 0
    value: Any = None


@dataclass(frozen=True)
class Start:
    """What a worker is started with. ``number`` is its place, from 1; ``ident`` is of this process and never again.

    ``late`` is one that takes the place of a worker that ended; ``known`` is what that one last told, by question.
    """

    folder: Path
    settings: Settings
    number: int
    ident: int
    late: bool
    known: dict[str, bytes]


class Channel:
    """One end of the pair. The other end is a process of the same user that this one started, or that started it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """The channel over one of a pair of sockets, which it closes at the end."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, kind: str, ident: int = 0, value: Any = None) -> None:
        """Send a message, unless the other end is gone."""
        if not self._writer.is_closing():
            content = pickle.dumps(Message(kind, ident, value))
            self._writer.write(LENGTH.pack(len(content)) + content)

    async def receive(self) -> Message | None:
        """The next message, or None once the other end is gone."""
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            content = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        message: Message = pickle.loads(content)  # noqa: S301  (from a process of our own)
        return message

    def close(self) -> None:
        """Send nothing more."""
        self._writer.close()
