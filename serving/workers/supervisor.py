"""The process above several workers: reserves the ports, starts the workers, passes on what they ask one another."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from serving.settings import Settings
from serving.workers.channel import Channel, Message, Start
from serving.workers.ports import CANNOT_LISTEN, address, reserve

log = logging.getLogger("serving")

# Times in a row that a worker may end before it serves, until the server gives up.
TRIES = 4
# Seconds before a worker is started again: doubled each time that one ends early, which is before SETTLED.
SHORTEST, LONGEST, SETTLED = 0.25, 10.0, 60.0
# Seconds that a worker has to answer what is asked of all.
POLL = 5.0
# A worker finds its modules where this process found them, and not in the folder that it happens to run in.
BEGIN = "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from serving.worker import main; sys.exit(main())"


@dataclass(eq=False)
class Worker:
    """One process and what it was asked and has not answered yet."""

    number: int
    ident: int
    process: asyncio.subprocess.Process
    channel: Channel
    begun: bool = False
    present: bool = False
    up: bool = False
    asked: dict[int, asyncio.Future[bytes | None]] = field(default_factory=dict)


class Supervisor:
    """Keeps ``settings.workers`` processes running until it is told to stop."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self._workers: dict[int, Worker] = {}
        self._known: dict[int, dict[str, bytes]] = {number: {} for number in range(1, settings.workers + 1)}
        self._leader: Worker | None = None
        self._numbers = itertools.count(1)
        self._stop = asyncio.Event()
        self._failed = self._listening = False
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Run until SIGTERM, SIGINT or a worker that cannot be started; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._end)
        try:
            reserved, self._settings = reserve(self._settings)
        except OSError as error:
            log.error(CANNOT_LISTEN, error)
            return 2
        with reserved:
            await asyncio.gather(*map(self._keep, self._known))
        return 1 if self._failed else 0

    def _end(self) -> None:
        self._stop.set()
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.process.terminate()

    async def _keep(self, number: int) -> None:
        """Start a worker, and again whenever it ends, with a growing delay where it ends soon."""
        failures = quick = 0
        late, loop = False, asyncio.get_running_loop()
        while not self._stop.is_set():
            begun = loop.time()
            worker = await self._start(number, late)
            code = await self._tend(worker)
            if self._stop.is_set():
                # One that had not begun yet is ended by the signal itself.
                self._failed |= code != 0 and (worker.begun or code != -signal.SIGTERM)
                return
            late = True
            failures = 0 if worker.up else failures + 1
            if failures == TRIES:
                log.error(
                    "worker %d ended %d times before it could serve; giving up, see its errors above", number, TRIES
                )
                self._failed = True
                self._end()
                return
            quick = quick + 1 if loop.time() - begun < SETTLED else 0
            delay = min(LONGEST, SHORTEST * 2**quick)
            log.error("worker %d ended with exit code %d; starting it again in %.1f s", number, code, delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)

    async def _start(self, number: int, late: bool) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            # A group of its own: an interrupt from the terminal is for this process, which tells the workers.
            process = await asyncio.create_subprocess_exec(
                sys.executable, *(f"-W{option}" for option in sys.warnoptions),
                "-c", BEGIN, "\n".join(sys.path), str(theirs.fileno()),
                pass_fds=[theirs.fileno()], process_group=0,
            )  # fmt: skip
        worker = Worker(number, next(self._numbers), process, await Channel.over(ours))
        self._workers[worker.ident] = worker
        worker.channel.send(
            "start", 0, Start(self._folder, self._settings, number, worker.ident, late, self._known[number])
        )
        log.info("worker %d is process %d", number, process.pid)
        if self._stop.is_set():
            process.terminate()
        return worker

    async def _tend(self, worker: Worker) -> int:
        """Take a worker's messages until it ends; its exit code, below 0 that of a signal."""
        while (message := await worker.channel.receive()) is not None:
            self._take(worker, message)
        worker.channel.close()
        del self._workers[worker.ident]
        worker.present = False
        if self._leader is worker:
            self._elect()
        for answer in worker.asked.values():
            if not answer.done():
                answer.set_result(None)
        return await worker.process.wait()

    def _take(self, worker: Worker, message: Message) -> None:
        if message.kind == "hello":
            worker.begun = worker.present = True
            self._tell_of_listening()
            if self._leader is None:
                self._elect()
            else:
                worker.channel.send("leader", 0, self._leader.ident)
        elif message.kind == "up":
            worker.up = True
        elif message.kind == "done":
            answer = worker.asked.pop(message.ident, None)
            if answer and not answer.done():
                answer.set_result(message.value)
        else:
            task = asyncio.create_task(
                self._ask(worker, message) if message.kind == "ask" else self._poll(worker, message)
            )
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def _tell_of_listening(self) -> None:
        if not self._listening and sum(worker.present for worker in self._workers.values()) == self._settings.workers:
            self._listening = True
            settings, host = self._settings, address(self._settings)
            log.info("listening: http://%s:%d  grpc://%s:%d", host, settings.http_port, host, settings.grpc_port)

    def _elect(self) -> None:
        """Of those that serve, the one that is there longest leads; every worker is told."""
        present = [worker for worker in self._workers.values() if worker.present and not self._stop.is_set()]
        self._leader = min(present, key=lambda worker: (not worker.up, worker.ident), default=None)
        if self._leader:
            for worker in present:
                worker.channel.send("leader", 0, self._leader.ident)

    async def _ask(self, worker: Worker, message: Message) -> None:
        idents, body = message.value
        answers = await asyncio.gather(*(self._answer(self._workers.get(ident), body) for ident in idents))
        worker.channel.send("answer", message.ident, answers)

    async def _poll(self, worker: Worker, message: Message) -> None:
        """Ask all; what each answers is kept, and stands for it while it is away, and for what it did in all."""
        action, body = message.value
        asked = [other for other in self._workers.values() if other.present]
        answers = await asyncio.gather(*(self._answer(other, body, POLL) for other in asked))
        fresh = {other.number: answer for other, answer in zip(asked, answers, strict=True) if answer is not None}
        for number, answer in fresh.items():
            self._known[number][action] = answer
        told = [(known[action], number in fresh) for number, known in self._known.items() if action in known]
        worker.channel.send("answer", message.ident, told)

    async def _answer(self, worker: Worker | None, body: bytes, timeout: float | None = None) -> bytes | None:
        if worker is None or not worker.present:
            return None
        ident = next(self._numbers)
        answer = worker.asked[ident] = asyncio.get_running_loop().create_future()
        worker.channel.send("do", ident, body)
        with suppress(TimeoutError):
            return await asyncio.wait_for(answer, timeout)
        return None
