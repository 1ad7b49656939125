"""The tables of a run, once as values; the terminal, the page and the document show them each in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.bench import ceiling
from loadtest.bench.figures import About, Over, Results
from loadtest.bench.goals import MEGABYTE, Goal
from loadtest.bench.rounds import BURST, SHARES, callers, share_of_capacity

LOAD_HEADERS = ("", "rows/s", "of ceiling", "least..most", "p50 ms", "p99 ms", "failed")
OPEN_HEADERS = ("", "load", "rows/s", "p50 ms", "p99 ms", "p99/p50", "failed")
SYSTEM_HEADERS = ("system", "version", "memory MB (PSS)", "start to first answer, s", "remarks")
GOAL_HEADERS = ("goal", "wanted", "measured", "", "measured against")


@dataclass(frozen=True)
class Table:
    """A title, headers, and rows of text; all columns but the first are numbers where ``numeric``."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: bool = True

    def markdown(self) -> str:
        """The table as Markdown under its title."""
        align = "---:" if self.numeric else "---"
        head = [_line(self.headers), _line(["---", *[align] * (len(self.headers) - 1)])]
        return "\n".join([f"**{self.title}**", "", *head, *(_line(row) for row in self.rows)])


def closed(results: Results, traces: Sequence[str], concurrency: Sequence[int]) -> list[Table]:
    """One table for each trace and number of callers, the ceiling on top of each."""
    tables = []
    for trace in traces:
        top = ceiling.best(results, trace)
        for count in concurrency:
            rows = [_load_row(row, results.over(row, trace, callers(count)), top) for row in
                    results.rows(trace, callers(count))]  # fmt: skip
            if rows:
                title = f"{trace} trace, {count} {'caller' if count == 1 else 'callers'}, closed loop"
                tables.append(Table(title, LOAD_HEADERS, [*_ceilings(results, trace, top), *rows]))
    return tables


def strategies(results: Results, traces: Sequence[str]) -> list[Table]:
    """What each way to use the bare session gave."""
    tables = []
    for trace in traces:
        top = ceiling.best(results, trace)
        rows = [_load_row(row, results.over(row, trace, ceiling.LOAD), top)[:4] for row in
                results.rows(trace, ceiling.LOAD)]  # fmt: skip
        if rows:
            tables.append(Table(f"{trace} trace, bare session in process", LOAD_HEADERS[:4], rows))
    return tables


def open_loops(results: Results) -> list[Table]:
    """Random arrivals at shares of the capacity, and bursts."""
    loads = [*map(share_of_capacity, SHARES), BURST]
    order = list(dict.fromkeys(row for load in loads for row in results.rows("mixed", load)))
    rows = [
        (row, load, _number(found.rate), _number(found.p50), _number(found.p99),
         f"{found.p99 / found.p50:.1f}" if found.p99 and found.p50 else "-", str(found.failed))
        for row in order for load in loads if (found := results.over(row, "mixed", load))
    ]  # fmt: skip
    title = "mixed trace, open loop: arrivals at random, at shares of each system's own capacity"
    return [Table(title, OPEN_HEADERS, rows)] if rows else []


def systems(results: Results) -> Table:
    """Memory, start, version, and what else is to be said of each system."""
    rows = [(name, about.version or "-", *_resources(about), _remarks(about)) for name, about in
            results.systems.items()]  # fmt: skip
    return Table("systems", SYSTEM_HEADERS, rows, numeric=False)


def goal_table(found: Sequence[Goal]) -> Table:
    """Every goal, what was measured, and whether it is met."""
    rows = [
        (
            one.what,
            one.wanted,
            "-" if one.measured is None else f"{one.measured:.2f} {one.unit}",
            one.verdict,
            one.basis,
        )
        for one in found
    ]
    return Table("goals", GOAL_HEADERS, rows, numeric=False)


def _ceilings(results: Results, trace: str, top: tuple[str, float] | None) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    alone = ceiling.best(results, trace, alone=True)
    if top:
        rows.append(_load_row(top[0], results.over(top[0], trace, ceiling.LOAD), top, "ceiling"))
    if alone and alone != top:
        rows.append(_load_row(alone[0], results.over(alone[0], trace, ceiling.LOAD), top, "ceiling, rows alone"))
    return rows


def _load_row(row: str, found: Over | None, top: tuple[str, float] | None, kind: str = "") -> tuple[str, ...]:
    if found is None:
        return (row, *["-"] * (len(LOAD_HEADERS) - 1))
    share = f"{found.rate / top[1]:.2f}" if top else "-"
    spread = f"{found.least:.0f}..{found.most:.0f}"
    name = f"{kind} ({row})" if kind else row
    return (name, _number(found.rate), share, spread, _number(found.p50), _number(found.p99), str(found.failed))


def _resources(about: About) -> tuple[str, str]:
    memory = "-" if about.memory is None else f"{about.memory / MEGABYTE:.0f}"
    return memory, "-" if about.ready is None else f"{about.ready:.2f}"


def _remarks(about: About) -> str:
    absent = [f"not measured: {about.absent}"] if about.absent else []
    return "; ".join([*absent, *about.notes])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
