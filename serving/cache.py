"""Answers that were given before, by what the graph was given, within a number of bytes; and whether that pays."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from serving.flights import Identity
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
        self.worth = Worth()

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


class Worth:
    """Whether looking rows up pays: the time it takes against the run time that its hits save.

    After every ``WINDOW`` rows that were looked up the two are compared. Where it does not pay, the next ``REST`` rows
    are not looked up at all; the window after them shows whether it would pay now.
    """

    WINDOW = 1024
    REST = 16 * WINDOW

    def __init__(self) -> None:
        self.pays = True
        self._asked = self._resting = 0
        self._balance = 0.0
        self._lock = threading.Lock()

    def ask(self) -> bool:
        """Whether the next row is to be looked up."""
        with self._lock:
            if self._resting:
                self._resting -= 1
                return False
            return True

    def count(self, spent: float, saved: float) -> None:
        """A row was looked up in ``spent`` seconds; a hit ``saved`` a run of so many."""
        with self._lock:
            self._asked += 1
            self._balance += saved - spent
            if self._asked < self.WINDOW:
                return
            self.pays = self._balance >= 0
            self._resting = 0 if self.pays else self.REST
            self._asked, self._balance = 0, 0.0


def key(identity: Identity) -> bytes:
    """A digest of what a graph is given: equal for equal arrays, and for no others."""
    digest = hashlib.blake2b(digest_size=16)
    for name, shape, kind, content in identity:
        digest.update(f"{name}\0{shape}{kind}\0".encode())
        digest.update(content)
    return digest.digest()


def _size(value: object) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else len(str(value))
