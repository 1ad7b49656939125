"""What makes several workers one server: those that follow serve and tell what the one that leads admitted and set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from serving.admission import Admission, State
from serving.errors import NotReady
from serving.follower import Follower
from serving.gateway.management import Management
from serving.repository import RETRY, Repository
from serving.workers.crew import Crew

log = logging.getLogger(__name__)

LEFT = "the worker that wanted to join ended"


class Told:
    """Followers by their numbers; called from threads, which wait until all have done it.

    That one of them is gone is no fault, unless they are ``needed``: NotReady is raised then.
    """

    def __init__(self, crew: Crew, workers: list[int], *, needed: bool = False) -> None:
        self._crew, self._workers, self._needed = crew, workers, needed
        self._loop = asyncio.get_running_loop()

    def stage(self, admission: Admission) -> None:
        """Have them open a version. Raises what the first that cannot says."""
        self._wait("stage", admission)

    def follow(self, state: State) -> None:
        """Have them serve and tell this."""
        self._wait("follow", state)

    def _wait(self, action: str, value: Any) -> None:
        asked = self._crew.ask(list(self._workers), action, value)
        if not asyncio.run_coroutine_threadsafe(asked, self._loop).result() and self._needed:
            raise NotReady(LEFT)


class Replicas:
    """This worker's part: it leads, or it follows the one that does. ``load`` loads all models where it leads."""

    def __init__(self, crew: Crew, management: Management, load: Callable[[Repository], None]) -> None:
        self._crew, self._management, self._load = crew, management, load
        self._repository = management.repository
        self._follower = Follower(self._repository)
        self._complete = asyncio.Event()
        self._leading: asyncio.Task[None] | None = None
        self.joined = asyncio.Event()
        crew.actions |= {"join": self._welcome, "stage": self._stage, "follow": self._follow}

    async def run(self) -> None:
        """Join whoever leads, and again when that changes; lead when it is this worker's turn."""
        while True:
            leader = await self._crew.leaders.get()
            if leader == self._crew.ident:
                self._leading = asyncio.create_task(self._lead())
            else:
                await self._join()

    async def stop(self) -> None:
        """Return once nothing is being loaded any more."""
        self._complete.set()
        if self._leading:
            await self._leading

    async def _lead(self) -> None:
        # What the leader before this one left half done is closed.
        await asyncio.to_thread(self._follower.follow, self._repository.state())
        self._repository.followers = Told(self._crew, self._crew.followers)
        self.joined.set()
        if not self._repository.loaded:
            await self._complete.wait()
            await asyncio.to_thread(self._load, self._repository)
        self._crew.say("up")

    async def _join(self) -> None:
        while self._crew.leaders.empty():
            try:
                await self._crew.lead("join", self._crew.ident)
            except Exception as error:  # whatever it is, this worker must not answer before it has joined
                if self._crew.leaders.empty():
                    log.error("cannot serve what the other workers serve, trying again: %s", error)
                    await asyncio.sleep(RETRY)
            else:
                self.joined.set()
                return

    async def _welcome(self, worker: int) -> None:
        """Bring a worker to where this one is; from then on it follows."""
        followers = self._crew.followers
        async with self._management.changing:
            if not await self._crew.ask([worker], "settle", self._management.settled()):
                raise NotReady(LEFT)
            newcomer = Told(self._crew, [worker], needed=True)
            await asyncio.to_thread(self._repository.introduce, newcomer, lambda: followers.append(worker))
        if len(followers) == self._crew.workers - 1:
            self._complete.set()

    async def _stage(self, admission: Admission) -> None:
        await asyncio.to_thread(self._follower.stage, admission)

    async def _follow(self, state: State) -> None:
        await asyncio.to_thread(self._follower.follow, state)
        if self._repository.loaded:
            self._crew.say("up")
