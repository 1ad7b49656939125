"""How workers ask one another: answers, errors, and callers and workers that are gone."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.errors import InvalidInput, NotReady
from serving.settings import Settings
from serving.workers.channel import Channel, Start
from serving.workers.crew import Crew
from tests.serving.turns import until

ME, LEADER, THIRD = 1, 2, 3


@asynccontextmanager
async def worker() -> AsyncIterator[tuple[Crew, Channel]]:
    """A worker that follows LEADER, and the supervisor's end of its channel."""
    ours, theirs = socket.socketpair()
    channel, supervisor = await Channel.over(ours), await Channel.over(theirs)
    start = Start(
        Path(), Settings(workers=3), number=1, ident=ME, late=False, known={"figures": pickle.dumps((True, 7))}
    )
    crew = Crew(channel, start)
    listening = asyncio.create_task(crew.listen())
    supervisor.send("leader", 0, LEADER)
    assert await crew.leaders.get() == LEADER
    try:
        yield crew, supervisor
    finally:
        supervisor.close()
        await listening
        channel.close()


def run(test: Callable[[Crew, Channel], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with worker() as (crew, supervisor):
            await test(crew, supervisor)

    asyncio.run(whole())


async def asked(supervisor: Channel) -> Any:
    message = await supervisor.receive()
    assert message
    return message


def answer(succeeded: bool, value: Any) -> bytes:
    return pickle.dumps((succeeded, value))


def test_leader_does_what_is_asked_and_its_error_is_raised_here() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        for outcome, expected in (((True, {"a": 1}), {"a": 1}), ((False, InvalidInput("no")), InvalidInput)):
            call = asyncio.create_task(crew.lead("change", "trace"))
            message = await asked(supervisor)
            workers, body = message.value
            assert (message.kind, workers, pickle.loads(body)) == ("ask", [LEADER], ("change", ("trace",)))
            supervisor.send("answer", message.ident, [answer(*outcome)])
            if expected is InvalidInput:
                with pytest.raises(InvalidInput, match="no"):
                    await call
            else:
                assert await call == expected

    run(test)


def test_leader_that_ended_is_told_as_not_ready() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        call = asyncio.create_task(crew.lead("load", "intent"))
        supervisor.send("answer", (await asked(supervisor)).ident, [None])
        with pytest.raises(NotReady, match="ask again"):
            await call

    run(test)


def test_follower_that_ended_follows_no_longer_and_the_error_of_another_is_raised() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        crew.followers += [LEADER, THIRD]
        call = asyncio.create_task(crew.others("stage", "it"))
        supervisor.send("answer", (await asked(supervisor)).ident, [None, answer(False, InvalidInput("no room"))])
        with pytest.raises(InvalidInput, match="no room"):
            await call
        assert crew.followers == [THIRD]

    run(test)


def test_answer_for_a_caller_that_was_cancelled_does_no_harm() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        gone = asyncio.create_task(crew.lead("change"))
        first = await asked(supervisor)
        gone.cancel()
        await asyncio.wait([gone])
        supervisor.send("answer", first.ident, [answer(True, 1)])
        call = asyncio.create_task(crew.lead("change"))
        supervisor.send("answer", (await asked(supervisor)).ident, [answer(True, 2)])
        assert await call == 2

    run(test)


def test_without_the_supervisor_whoever_waits_and_whoever_asks_is_told() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        call = asyncio.create_task(crew.everyone("figures"))
        await asked(supervisor)
        supervisor.close()
        for waiting in (call, crew.lead("load", "intent")):
            with pytest.raises(NotReady, match="this one is stopping"):
                await waiting

    run(test)


def test_what_is_asked_of_this_worker_is_done_and_what_goes_wrong_goes_back() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        done: list[str] = []

        async def apply(value: str) -> str:
            done.append(value)
            if value == "bad":
                raise KeyError(value)
            return value.upper()

        crew.actions["apply"] = apply
        for ident, value in ((1, "good"), (2, "bad")):
            supervisor.send("do", ident, pickle.dumps(("apply", (value,))))
        await until(lambda: len(done) == 2)
        answers = {message.ident: pickle.loads(message.value) for message in [await asked(supervisor) for _ in done]}
        assert answers[1] == (True, "GOOD")
        assert answers[2][0] is False
        assert "KeyError" in str(answers[2][1])

    run(test)


def test_figures_of_all_say_which_are_of_now() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        call = asyncio.create_task(crew.everyone("figures"))
        supervisor.send("answer", (await asked(supervisor)).ident, [(answer(True, 3), True), (answer(True, 4), False)])
        assert await call == [(3, True), (4, False)]

    run(test)


def test_worker_knows_what_the_one_before_it_told_last() -> None:
    async def test(crew: Crew, supervisor: Channel) -> None:
        assert (crew.told_before("figures"), crew.told_before("statistics")) == (7, None)

    run(test)
