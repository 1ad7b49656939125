"""Whether a load test was good enough, one verdict for each limit."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.settings import Settings
from loadtest.summary import Summary


@dataclass(frozen=True)
class Verdict:
    """One limit, and whether it holds."""

    passed: bool
    message: str


def judge(summary: Summary, settings: Settings) -> tuple[Verdict, ...]:
    """A verdict for each limit of ``settings``; a limit on what could not be measured does not hold."""
    verdicts = []
    for name, bound in (("p50", settings.max_p50), ("p99", settings.max_p99)):
        if bound is not None:
            value = summary.latency[name] if summary.latency else None
            passed = value is not None and value <= bound
            measured = "there is none, for no request succeeded" if value is None else f"{value:,.2f} ms"
            verdicts.append(Verdict(passed, f"latency {name}: {measured}; at most {bound:,g} ms is allowed"))
    if settings.min_throughput is not None:
        passed = summary.throughput >= settings.min_throughput
        measured = f"{summary.throughput:,.1f} good answers a second"
        verdicts.append(Verdict(passed, f"throughput: {measured}; at least {settings.min_throughput:,g} are wanted"))
    rate, allowed = summary.error_rate, settings.max_error_rate
    if rate is None:
        measured = "nothing was measured"
    else:
        measured = f"{percent(rate)} ({summary.failed:,} of {summary.requests:,} requests)"
    passed = rate is not None and rate <= allowed
    verdicts.append(Verdict(passed, f"error rate: {measured}; at most {percent(allowed)} is allowed"))
    return tuple(verdicts)


def percent(share: float) -> str:
    """A share in percent with three digits."""
    return f"{100 * share:.3g} %"
