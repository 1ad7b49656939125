"""Answers that were given before, by row: the most recently used ones, within a number of bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from serving.tensors import Row

# What an entry takes beside its values, roughly.
OVERHEAD = 512


class AnswerCache:
    """Least-recently-used answers; safe to use from several threads. Cached rows must not be changed."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._answers: OrderedDict[bytes, tuple[Row, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0

    def get(self, key: bytes) -> Row | None:
        """The answer that was kept under the key."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                return None
            self._answers.move_to_end(key)
            return found[0]

    def put(self, key: bytes, answer: Row) -> None:
        """Keep an answer; the ones that were not asked for longest make room."""
        size = OVERHEAD + sum(_size(value) for value in answer.values())
        if size > self._capacity:
            return
        with self._lock:
            old = self._answers.pop(key, None)
            self.size += size - (old[1] if old else 0)
            self._answers[key] = (answer, size)
            while self.size > self._capacity:
                _, (_, freed) = self._answers.popitem(last=False)
                self.size -= freed


def key(row: Row) -> bytes:
    """A digest of a checked row's columns: equal for equal rows, and for no others."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(row):
        kind, content = _content(row[name])
        digest.update(f"{name}\0{kind}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.digest()


def _content(value: object) -> tuple[str, bytes]:
    if isinstance(value, str):
        return "text", value.encode()
    array = np.asarray(value)
    content = repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
    return f"{array.dtype.str}{array.shape}", content


def _size(value: object) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else len(str(value))
