"""The report of a load test: ``report.json`` for programs, ``report.html`` for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.limits import Verdict, percent
from loadtest.run import Record
from loadtest.settings import Settings
from loadtest.summary import Numbers, Summary, latencies, services
from reporting import charts
from reporting.page import Block, Page, code, facts, figure, table, text, verdict

PERCENTILE_TICKS = {"0 %": 1.0, "50 %": 2.0, "90 %": 10.0, "99 %": 100.0, "99.9 %": 1000.0}

HOW_OPEN = (
    "Open loop: requests were due at random times whether or not earlier ones were answered, and latency counts from "
    "the time a request was due (the intended time), so a stall of the server counts for every request that was due "
    "during it. Service time counts from the time the request was really sent."
)
HOW_CLOSED = (
    "Closed loop: each caller sent again as soon as it had its answer, and latency counts from sending. While the "
    "server stalls, nobody asks, so these latencies flatter it; use --rate to learn what independent users see."
)


@dataclass(frozen=True)
class Report:
    """All there is to tell of one load test; ``started`` is a time of day as text, ``dropped`` a count of requests."""

    settings: Settings
    model: str
    payload: str
    started: str
    interrupted: bool
    dropped: int
    summary: Summary
    verdicts: tuple[Verdict, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values: the settings and the fields of Summary under their own names."""
        given = vars(self.settings).items()
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in given}
        return {
            "schema": 1,
            "started": self.started,
            "command": settings.pop("command"),
            "settings": settings | {"model": self.model, "payload": self.payload},
            "interrupted": self.interrupted,
            "dropped": self.dropped,
            "latency_counts_from": "intended time" if self.settings.rate is not None else "sending",
            "latency_is_of": "good answers only, in milliseconds",
            **asdict(self.summary),
            "verdicts": [asdict(one) for one in self.verdicts],
        }


def write(report: Report, records: Sequence[Record]) -> None:
    """Write ``report.json`` and ``report.html`` into the output directory of the settings. Raises OSError."""
    folder = report.settings.output
    listing = json.dumps(report.as_json(), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "report.json").write_text(listing + "\n", encoding="utf-8", errors="replace")
    page(report, records).write(folder / "report.html")


def page(report: Report, records: Sequence[Record]) -> Page:
    """The report as a page."""
    settings, summary = report.settings, report.summary
    built = Page(f"Load test of {report.model}", f"{settings.url} · {settings.load} · {report.started}")
    built.section("Result", *_result(report), note=HOW_CLOSED if settings.rate is None else HOW_OPEN)
    if summary.over_time:
        built.section("Over time", *_over_time(summary, settings))
    if summary.latency:
        built.section(
            "Latency",
            *_latency(summary, latencies(records), services(records)),
            note="Over all good answers to requests after the warm-up; failed requests are counted as errors only.",
        )
    if summary.errors:
        rows = [(one.kind, one.count, percent(one.count / summary.requests), one.message) for one in summary.errors]
        built.section("Errors", table(["kind", "count", "share", "first message"], rows, numeric=(1, 2)))
    shown = {**report.as_json()["settings"], "started": report.started}
    built.section(
        "Settings",
        table(
            ["setting", "value"],
            [(name.replace("_", "-"), value) for name, value in shown.items() if value is not None],
        ),
        text("To repeat this run:"),
        code(settings.command),
    )
    return built


def _result(report: Report) -> list[Block]:
    summary = report.summary
    spread = summary.latency or {}
    tiles: dict[str, object] = {
        "good answers a second": summary.throughput,
        "p50 latency, ms": spread.get("p50"),
        "p99 latency, ms": spread.get("p99"),
        "p99.9 latency, ms": spread.get("p99.9"),
        "error rate": None if summary.error_rate is None else percent(summary.error_rate),
        "requests measured": summary.requests,
        "seconds measured": summary.seconds,
        "rows a second": summary.rows_per_second,
    }
    blocks = [facts(tiles), *(verdict(one.passed, one.message) for one in report.verdicts)]
    if report.interrupted:
        blocks.append(
            text(
                f"Warning: the run was stopped before its end. {report.dropped:,} requests had no answer yet and are "
                "not in these figures; slow ones are more often among them than fast ones."
            )
        )
    return blocks + [text(f"Warning: {warning}") for warning in summary.warnings]


def _over_time(summary: Summary, settings: Settings) -> list[Block]:
    buckets = summary.over_time
    at = [bucket.start for bucket in buckets]
    rates = {"good answers": (at, [bucket.answered for bucket in buckets])}
    if settings.rate is not None:
        rates["requests due"] = (at, [bucket.offered for bucket in buckets])
    if summary.failed:
        rates["errors"] = (at, [bucket.failed for bucket in buckets])
    times = {
        "p50": (at, [np.nan if bucket.p50 is None else bucket.p50 for bucket in buckets]),
        "p99": (at, [np.nan if bucket.p99 is None else bucket.p99 for bucket in buckets]),
    }
    return [
        figure(
            charts.lines(rates, "seconds since the warm-up", "a second", from_zero=True),
            "Throughput, at the time of the answer.",
        ),
        figure(
            charts.lines(times, "seconds since the warm-up", "latency, ms", from_zero=True),
            "Latency of the good answers, at the time when the request was due.",
        ),
    ]


def _latency(summary: Summary, taken: Numbers, served: Numbers) -> list[Block]:
    spreads = {"latency, ms": summary.latency, "service time, ms": summary.service, "sent late, ms": summary.lateness}
    found = {name: values for name, values in spreads.items() if values}
    overall = summary.latency or {}
    rows = [[name, *values.values()] for name, values in found.items()]
    curves = {"latency": _curve(taken)}
    if summary.service:
        curves["service time"] = _curve(served)
    return [
        table(["", *overall], rows, numeric=range(1, 1 + len(overall))),
        figure(
            charts.lines(curves, "percentile", "ms", log_x=True, x_ticks=PERCENTILE_TICKS, from_zero=True),
            "How long the slowest had to wait: at 99 % stands the time within which 99 of 100 answers came. "
            "The curve ends where the answers are too few to say more.",
        ),
        figure(
            charts.distribution(taken, "latency, ms", {name: overall[name] for name in ("p50", "p99")}, log_x=True),
            "How many answers took how long.",
        ),
    ]


def _curve(values: Numbers) -> tuple[list[float], list[float]]:
    """Percentiles over ``1 / (1 - p)``, which gives each further nine the same room, to p99.9 or to one answer."""
    across = np.geomspace(1, min(1000, max(values.size, 2)), 120)
    return across.tolist(), np.percentile(values, 100 * (1 - 1 / across)).tolist()
