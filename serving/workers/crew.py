"""What a worker knows of the others: one leads, all can be asked. A server of one process is its own leader."""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from serving.errors import DownstreamError, NotReady
from serving.workers.channel import Channel, Message, Start

log = logging.getLogger(__name__)

GONE = "the process above the workers ended, and this one is stopping"

Action = Callable[..., Awaitable[Any]]


class Alone:
    """The one worker there is: it leads, and there are no others."""

    number = 0
    workers = 1

    def __init__(self) -> None:
        self.actions: dict[str, Action] = {}

    async def lead(self, action: str, *values: Any) -> Any:
        """Have the worker that leads do something; what it returns or raises."""
        return await self.actions[action](*values)

    async def others(self, action: str, *values: Any) -> None:
        """Have those that follow this worker do something; raises the first error of one that is still there."""

    async def everyone(self, action: str) -> list[tuple[Any, bool]]:
        """What each worker tells, and whether it is of now; of one that ended and is not back, what it told last."""
        return [(await self.actions[action](), True)]

    def told_before(self, action: str) -> Any:
        """What the process whose place this one took told last, or None."""
        return None


class Crew(Alone):
    """One of several workers, over its channel to the supervisor. For the event loop only."""

    def __init__(self, channel: Channel, start: Start) -> None:
        super().__init__()
        self.number, self.workers, self.ident = start.number, start.settings.workers, start.ident
        self.followers: list[int] = []
        self.leaders: asyncio.Queue[int] = asyncio.Queue()
        self._leader = 0
        self._channel, self._known = channel, start.known
        self._gone = False
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._doing: set[asyncio.Task[None]] = set()

    async def lead(self, action: str, *values: Any) -> Any:
        leader = self._leader
        if leader == self.ident:
            return await self.actions[action](*values)
        (answer,) = await self._ask("ask", ([leader], _packed(action, values)))
        if answer is None:
            raise NotReady("the worker that leads the others ended in the middle of this; ask again")
        return _result(answer)

    async def others(self, action: str, *values: Any) -> None:
        await self.ask(list(self.followers), action, *values)

    async def ask(self, workers: list[int], action: str, *values: Any) -> list[int]:
        """Have some workers do something at once: those that did; the others ended, and follow no longer.

        Raises the first error.
        """
        if not workers:
            return []
        answers = await self._ask("ask", (workers, _packed(action, values)))
        for worker, answer in zip(workers, answers, strict=True):
            if answer is None and worker in self.followers:
                self.followers.remove(worker)
        for answer in answers:
            if answer is not None:
                _result(answer)
        return [worker for worker, answer in zip(workers, answers, strict=True) if answer is not None]

    async def everyone(self, action: str) -> list[tuple[Any, bool]]:
        answers = await self._ask("poll", (action, _packed(action, ())))
        return [(_result(answer), fresh) for answer, fresh in answers]

    def told_before(self, action: str) -> Any:
        return _result(self._known[action]) if action in self._known else None

    def say(self, kind: str) -> None:
        """Tell the supervisor how far this worker is: hello, up."""
        self._channel.send(kind)

    async def listen(self) -> None:
        """Do what is asked and take answers, until the supervisor is gone."""
        while (message := await self._channel.receive()) is not None:
            if message.kind == "leader":
                self._leader = message.value
                self.leaders.put_nowait(message.value)
            elif message.kind == "answer":
                asked = self._asked.pop(message.ident)
                # Done already where the one that asked was cancelled, as a client's call may be.
                if not asked.done():
                    asked.set_result(message.value)
            else:
                doing = asyncio.create_task(self._do(message))
                self._doing.add(doing)
                doing.add_done_callback(self._doing.discard)
        self._gone = True
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(NotReady(GONE))

    async def _ask(self, kind: str, value: Any) -> Any:
        if self._gone:
            raise NotReady(GONE)
        ident = next(self._numbers)
        self._asked[ident] = asyncio.get_running_loop().create_future()
        self._channel.send(kind, ident, value)
        return await self._asked[ident]

    async def _do(self, message: Message) -> None:
        action, values = pickle.loads(message.value)  # noqa: S301  (from a process of our own)
        try:
            outcome = (True, await self.actions[action](*values))
        except DownstreamError as error:
            outcome = (False, error)
        except Exception as error:
            log.exception("%s failed", action)
            outcome = (False, RuntimeError(f"worker {self.number}: {type(error).__name__}: {error}"))
        self._channel.send("done", message.ident, pickle.dumps(outcome))


def _packed(action: str, values: Iterable[Any]) -> bytes:
    return pickle.dumps((action, tuple(values)))


def _result(answer: bytes) -> Any:
    succeeded, value = pickle.loads(answer)  # noqa: S301  (from a process of our own)
    if not succeeded:
        raise value
    return value
