"""``downstream serve --explain``: what runs of each model cost on this machine, and how its rows are scheduled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from serving import graphs, model_config
from serving.cost import CostModel
from serving.engine import Engine
from serving.errors import DownstreamError, Unsupported
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings, cores_explained

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
CAPACITIES = (16, 64, 256)
# Nobody waits for requests meanwhile: costs that must be measured are measured well.
WARM_UP = 2.0


def run(folder: Path, settings: Settings) -> int:
    """Load every model of a repository and print it; the exit code, not 0 where one does not load or there is none."""
    settings = dataclasses.replace(settings, warm_up=max(settings.warm_up, WARM_UP))
    repository = Repository(folder, settings, Metrics(CollectorRegistry()))
    loaded, failed = 0, 0
    for path in sorted(folder.glob(f"*/{model_config.FILE}")):
        name = path.parent.name
        try:
            repository.load(name)
        except Unsupported as error:
            print(f"{error}\n")
        except DownstreamError as error:
            failed += 1
            print(f"model {name} does not load: {error}\n")
        for version, engine in repository.engines().get(name, {}).items():
            loaded += 1
            print(
                f"model {name} version {version}\n" + "\n".join(f"  {line}" for line in lines(engine, settings)) + "\n"
            )
    repository.close()
    if not loaded and not failed:
        print(f"{folder}: no model that is served here; give the folder that downstream export wrote to")
    return 0 if loaded and not failed else 1


def lines(engine: Engine, settings: Settings) -> Iterator[str]:
    """What is to be said of one loaded model."""
    cost, limits = engine.cost, engine.limits
    yield f"cost of a run   {1e3 * cost.base:.3g} ms + {1e3 * cost.token:.3g} ms x tokens, padding included"
    yield f"                + {1e6 * cost.square:.3g} ns x tokens x tokens of the longest row"
    yield f"                {engine.known_cost.source if engine.known_cost else 'not measured'}; every run corrects it"
    yield from _costs(engine)
    for line in graphs.remedies(engine.bundle.manifest, settings):
        yield f"instructions    {line}"
    yield f"grouping        at most {limits.max_rows} rows, {limits.max_tokens} padded tokens, and {limits.max_waste:g}"
    yield "                times the attention without padding; a row joins where that saves more than"
    yield f"                {limits.gain:.0%} of its own run"
    if not engine.bundle.manifest.batch_invariant:
        yield "                rows run alone: the graph is not batch_invariant (dynamic INT8), so batch mates would"
        yield "                change answers, and what is served is what was verified"
    elif limits.max_rows == 1:
        yield "                rows run alone: max_batch_size of the model is 0 or 1"
    if limits.preferred or limits.delay:
        yield f"                preferred sizes {list(limits.preferred)}, held back {1e3 * limits.delay:g} ms at most"
    yield f"order           earliest deadline, or {limits.stretch:g} times the predicted run after arrival, or"
    yield f"                {limits.patience:g} s after it; {limits.levels or 'no'} priority levels"
    yield f"waiting         at most {limits.capacity} rows"
    yield f"equal rows      {'run once while they are in flight' if engine.flights else 'run each'}"
    yield f"response cache  {'on, as long as hits pay' if engine.cache else 'off: response_cache in config.pbtxt'}"
    yield f"runners         {engine.runners}: {_runners(settings)}"
    for length in fitting(CAPACITIES, engine):
        rows = best_rows(engine, length)
        rate = engine.runners * rows / cost(rows, length)
        yield f"capacity        {rate:.1f} rows/s of {length} tokens, {rows} at once"


def _costs(engine: Engine) -> Iterator[str]:
    yield "                tokens   ms alone   rows that pay   gain in rows/s"
    for length in fitting(LENGTHS, engine):
        rows = best_rows(engine, length)
        gain = rows * engine.cost(1, length) / engine.cost(rows, length) - 1
        yield f"                {length:6d} {1e3 * engine.cost(1, length):10.2f} {rows:15d} {gain:15.0%}"


def _runners(settings: Settings) -> str:
    if settings.runners:
        return "the setting runners"
    if settings.triton_graphs:
        return "they wait for the server that runs the graphs"
    return f"one per core unless config.pbtxt says otherwise; {cores_explained()}"


def fitting(lengths: tuple[int, ...], engine: Engine) -> list[int]:
    """Those lengths that the model can be given, and its longest."""
    longest = min(engine.task.max_sizes.values(), default=max(lengths))
    return sorted({min(length, longest) for length in lengths})


def best_rows(engine: Engine, length: int) -> int:
    """How many rows of one length run together when enough wait, by the rules of the scheduler."""
    cost: CostModel = engine.cost
    most = min(engine.limits.max_rows, max(1, engine.limits.max_tokens // length))
    rows, alone = 1, cost(1, length)
    while rows < most and cost(rows, length) + alone - cost(rows + 1, length) > engine.limits.gain * alone:
        rows += 1
    return rows
