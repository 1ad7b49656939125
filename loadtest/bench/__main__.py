"""``make bench``: every way of serving one graph beside the bare session, in interleaved rounds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest.bench import launch, machine, memory, report, runners, systems, traces, wrk
from loadtest.bench.ceiling import Session
from loadtest.bench.figures import Results
from loadtest.bench.goals import goals
from loadtest.bench.options import Options, parse
from loadtest.bench.processes import CannotRun
from loadtest.bench.report import Report
from loadtest.bench.rounds import Plan
from loadtest.bench.traces import Trace
from serving.errors import DownstreamError
from serving.settings import read_available_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 2 when nothing can be measured."""
    options, console = parse(argv), Console()
    try:
        version = launch.version_folder(options.model)
        wrk.check_installed()
        session = Session(version, read_available_cores())
    except (CannotRun, DownstreamError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = _traces(options, session)
    results, begun = Results(), datetime.now(UTC).isoformat(" ", "seconds")
    every = systems.every(options.model.resolve().name)

    def told() -> Report:
        grown = memory.goal(options.output / memory.FILE)
        reached = goals(results, systems.batching_rows(every), session.batch_invariant, grown)
        return Report(options, machine.facts(), chosen, results, reached, begun)

    try:
        with ExitStack() as stack:
            wanted = [system for system in every if system.name in options.systems]
            running = runners.start_all(stack, wanted, version, chosen, session, results, console)
            plan = Plan(options, {trace.name: trace for trace in chosen}, session, running, results)
            _measure(plan, console, lambda: report.write(told()))
    except KeyboardInterrupt:
        console.print("stopped; this is what was measured until now")
    if not results.measured:
        print("bench: nothing was measured; the reasons are above", file=sys.stderr)
        return 2
    report.write(told())
    report.show(told(), console)
    console.print((options.output / "report.html").resolve().as_uri(), soft_wrap=True)
    return 0


def _traces(options: Options, session: Session) -> list[Trace]:
    made = {
        "short": lambda: traces.short(session.tokens, session.longest, options.short),
        "mixed": lambda: traces.mixed(session.tokens, session.longest),
    }
    return [made[name]() for name in options.traces]


def _measure(plan: Plan, console: Console, keep: Callable[[], None]) -> None:
    """Make all measurements; ``keep`` is called after each round."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console) as progress:
        task, last = progress.add_task("", total=plan.cost()), 1
        for step in plan.steps():
            if step.round != last:
                keep()
                last = step.round
            progress.update(task, description=f"round {step.round}  {step.trace}, {step.load}: {step.row}")
            found = plan.run(step)
            if not console.is_terminal and found:
                name = f"round {step.round}  {step.trace:5}  {step.load:15}  {step.row:40}"
                console.print(f"{name} {found.rate:8.1f}/s", soft_wrap=True, highlight=False)
            progress.advance(task, step.cost)


if __name__ == "__main__":
    sys.exit(main())
