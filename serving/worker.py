"""One of several server processes, as the supervisor starts it."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence

import uvloop
from prometheus_client import CollectorRegistry

from serving import logs
from serving.gateway.replicas import Replicas
from serving.metrics import Metrics
from serving.repository import Repository
from serving.server import Server, load, tell
from serving.workers.channel import Channel, Start
from serving.workers.crew import Crew
from serving.workers.ports import address

log = logging.getLogger("serving")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code. The one argument is the descriptor of the socket to the supervisor."""
    (descriptor,) = sys.argv[1:] if argv is None else argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(socket.socket(fileno=int(descriptor))))


def _load(repository: Repository, url: str) -> None:
    load(repository)
    tell(repository, url)


async def _work(end: socket.socket) -> int:
    channel = await Channel.over(end)
    message = await channel.receive()
    if message is None:
        return 1
    start: Start = message.value
    settings = start.settings
    logs.begin(settings, f"worker {start.number}: ")
    crew = Crew(channel, start)
    metrics = Metrics(CollectorRegistry())
    server = Server(Repository(start.folder, settings, metrics), metrics, settings, crew)
    url = f"http://{address(settings)}:{settings.http_port}"
    replicas = Replicas(crew, server.management, lambda repository: _load(repository, url))
    listening = asyncio.create_task(crew.listen())
    # Without its supervisor nobody would stop it.
    listening.add_done_callback(lambda _: server.stop.set())
    # One that comes late, beside others that answer, opens its ports only when it can answer too.
    if not start.late and await server.open() is None:
        return 2
    crew.say("hello")
    following = asyncio.create_task(replicas.run())
    stopped = asyncio.create_task(server.stop.wait())
    if start.late:
        joined = asyncio.create_task(replicas.joined.wait())
        await asyncio.wait([stopped, joined], return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()
        if not stopped.done() and await server.open() is None:
            return 2
        log.info("in its place again")
    await stopped
    await asyncio.gather(server.drain(), replicas.stop())
    following.cancel()
    await server.close()
    channel.close()
    await listening
    return 0
