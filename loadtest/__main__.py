"""The command ``downstream loadtest``: load a server, judge it, report."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console

from loadtest import payload, report
from loadtest.limits import judge
from loadtest.progress import closing, show
from loadtest.run import OUTSTANDING, Run
from loadtest.settings import Settings, parse
from loadtest.summary import summarise
from loadtest.target import CannotStart, Failure, Row, Target, choose_model

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one load test; the exit code says whether all limits hold (see ``--help``).

    Raises SystemExit(2) where the command line is wrong.
    """
    settings = parse(argv)
    try:
        return asyncio.run(_test(settings))
    except CannotStart as error:
        print(f"downstream loadtest: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


async def _test(settings: Settings) -> int:
    _prepare(settings)
    target = _target(settings)
    try:
        await target.reach()
        model = await choose_model(target, settings.model)
        requests, described = await _requests(target, model, settings)
        await _probe(target, model, requests[0])

        async def send(number: int) -> Failure | None:
            return await target.infer(model, requests[number % len(requests)])

        run, started = Run(settings, send), datetime.now(UTC).isoformat(" ", "seconds")
        await _watched(run)
    finally:
        await target.close()
    summary = summarise(run.records, run.span, settings.rows, settings.rate is not None, run.processor)
    verdicts = judge(summary, settings)
    told = report.Report(settings, model, described, started, run.interrupted, run.dropped, summary, verdicts)
    report.write(told, run.records)
    print(closing(summary))
    for verdict in verdicts:
        print("passed " if verdict.passed else "FAILED ", verdict.message)
    print(f"report: {settings.output / 'report.html'}")
    if run.interrupted:
        return INTERRUPTED
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _prepare(settings: Settings) -> None:
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"--output {settings.output}: {error.strerror}; choose a directory to write in") from error
    # Over HTTP each request under way has a connection, and a process is often given 1,024 files only.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OUTSTANDING + 256 if hard == resource.RLIM_INFINITY else min(OUTSTANDING + 256, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _target(settings: Settings) -> Target:
    # Each wire has its own libraries; the other one need not be installed.
    if settings.url.startswith("grpc"):
        from loadtest.grpc_target import GrpcTarget

        return GrpcTarget(settings.url, settings.timeout)
    from loadtest.http_target import HttpTarget

    return HttpTarget(settings.url, settings.timeout)


async def _requests(target: Target, model: str, settings: Settings) -> tuple[list[bytes], str]:
    """All requests that will be sent in turn, serialised beforehand, and where their rows come from."""
    columns = await target.columns(model)
    rows: list[Row]
    if settings.input is not None:
        rows = payload.read(settings.input, columns)
        described = f"{len(rows):,} rows of {settings.input}"
    elif example := await target.example(model):
        rows, described = [example], "the example row of the model"
    else:
        rows = payload.sentences(columns, settings.seed)
        described = f"{len(rows):,} made-up texts of {payload.LENGTHS[0]} to {payload.LENGTHS[1]} words"
    batches = payload.batches(rows, columns, settings.rows, settings.seed)
    return [target.encode(model, batch) for batch in batches], described


async def _probe(target: Target, model: str, request: bytes) -> None:
    """Raises CannotStart where the server refuses what would be sent: the load would be of refusals only."""
    failure = await target.infer(model, request)
    if failure is not None and failure.refused:
        raise CannotStart(
            f"the server refused the first request: {failure.kind}: {failure.message}; "
            "check --model, and give rows that the model takes with --input"
        )


async def _watched(run: Run) -> None:
    progress = asyncio.create_task(show(run, Console(stderr=True)))
    try:
        with _on_interrupt(run.stop):
            await run.measure()
    finally:
        progress.cancel()
        await asyncio.wait([progress])


@contextmanager
def _on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call ``stop``; only the main thread of a process gets signals."""
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


if __name__ == "__main__":
    sys.exit(main())
