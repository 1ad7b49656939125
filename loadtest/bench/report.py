"""What a run leaves: bench.json, report.html, a chart, and a Markdown part for a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

from loadtest.bench import ceiling, tables
from loadtest.bench.figures import Results
from loadtest.bench.goals import Goal
from loadtest.bench.options import Options
from loadtest.bench.rounds import callers
from loadtest.bench.tables import Table
from loadtest.bench.traces import Trace
from reporting import charts
from reporting.page import Block, Page, figure, table, text
from reporting.svg import Svg

HOW = (
    "Medians over rounds; while one system is measured all others are suspended. The load generator runs on the same "
    "cores: wrk for HTTP, perf_analyzer for gRPC. Closed-loop latencies count from sending. Open loops come from "
    "perf_analyzer where a system speaks v2 completely (the gateway, Triton), with latency from the real sending; "
    "else from this project's own generator, with latency from the time a request was due. A measurement begins with "
    "an idle server and ends in the middle of a batch, which costs a server with batches of 32 a few per cent. Memory "
    "is the proportional set size of all processes, the most seen. Start is from the command to the first answer."
)


@dataclass(frozen=True)
class Report:
    """A run, complete or not."""

    options: Options
    machine: Mapping[str, str]
    traces: Sequence[Trace]
    results: Results
    goals: Sequence[Goal]
    started: str

    def facts(self) -> dict[str, object]:
        """What is told beside the figures."""
        options = self.options
        return {
            "started": self.started,
            "machine": dict(self.machine),
            "model": options.model.resolve().name,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "concurrency": list(options.concurrency),
            "traces": {trace.name: trace.about for trace in self.traces},
        }

    def tables(self) -> list[Table]:
        """All tables but that of the goals."""
        names = [trace.name for trace in self.traces]
        return [
            *tables.closed(self.results, names, self.options.concurrency),
            *tables.open_loops(self.results),
            *tables.strategies(self.results, names),
            tables.systems(self.results),
        ]

    def settings(self) -> list[tuple[str, str]]:
        """How each system was set up."""
        return [(name, about.settings) for name, about in self.results.systems.items()]


def write(report: Report) -> None:
    """Write everything into the output folder, and the Markdown where it is wanted. Raises OSError."""
    folder = report.options.output
    report.results.write(folder / "bench.json", report.facts())
    page(report).write(folder / "report.html")
    drawing = throughput(report)
    # Inline SVG needs no namespace, a file of its own does.
    (folder / "throughput.svg").write_text(
        drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1), "utf-8"
    )
    if report.options.markdown:
        report.options.markdown.write_text(markdown(report), "utf-8")


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    for one in [*report.tables(), tables.goal_table(report.goals)]:
        shown = RichTable(title=one.title, title_justify="left")
        for place, header in enumerate(one.headers):
            shown.add_column(header, justify="right" if one.numeric and place else "left", overflow="fold")
        for row in one.rows:
            shown.add_row(*row)
        console.print(shown)


def throughput(report: Report) -> Svg:
    """Rows a second of all systems at the most callers, as shares of the ceiling."""
    load = callers(max(report.options.concurrency))
    names = [trace.name for trace in report.traces]
    rows = list(dict.fromkeys(row for name in names for row in report.results.rows(name, load)))
    series = {}
    for name in names:
        top = ceiling.best(report.results, name)
        found = [report.results.over(row, name, load) for row in rows]
        series[name] = [over.rate / (top[1] if top else 1) if over else 0.0 for over in found]
    whole = all(ceiling.best(report.results, name) for name in names)
    return charts.bars(rows, series, f"{'share of the ceiling' if whole else 'rows a second'}, {load}")


def page(report: Report) -> Page:
    """The report as a page."""
    built = Page(f"Bench of {report.options.model.resolve().name}", f"{report.started} · {report.machine['processor']}")
    built.section("Throughput", figure(throughput(report), "Each system at its most callers."), note=HOW)
    built.section("Goals", _block(tables.goal_table(report.goals)))
    for one in report.tables():
        built.section(one.title[:1].upper() + one.title[1:], _block(one))
    built.section("How each system was set up", table(["system", "settings"], report.settings()))
    built.section("Machine and texts", table(["", ""], [*report.machine.items(), *_texts(report)]), text(_run(report)))
    return built


def markdown(report: Report) -> str:
    """The same as a part of a Markdown document."""
    machine = [f"- {name}: {value}" for name, value in [*report.machine.items(), *_texts(report)]]
    settings = [f"- **{name}**: {value}" for name, value in report.settings()]
    parts = [
        f"<!-- written by `python -m loadtest.bench --markdown`, {report.started} -->",
        _run(report) + "\n\n" + HOW,
        "\n".join(machine),
        tables.goal_table(report.goals).markdown(),
        *(one.markdown() for one in report.tables()),
        "**settings**\n\n" + "\n".join(settings),
    ]
    return "\n\n".join(parts) + "\n"


def _texts(report: Report) -> list[tuple[str, str]]:
    return [(f"{trace.name} trace", trace.about) for trace in report.traces]


def _run(report: Report) -> str:
    options, model = report.options, report.options.model.resolve().name
    return f"{model}, {report.started}: rounds: {options.rounds}, {options.seconds:g} s or more a measurement."


def _block(one: Table) -> Block:
    return table(list(one.headers), one.rows, numeric=range(1, len(one.headers)) if one.numeric else ())
