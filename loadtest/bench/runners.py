"""The systems under measurement: started once, one by one, and all but one of them suspended."""

from __future__ import annotations

import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import tritonclient.grpc
from rich.console import Console
from tritonclient.utils import InferenceServerException

from loadtest.bench import launch, perf_analyzer, wrk
from loadtest.bench.ceiling import Session
from loadtest.bench.figures import About, Results
from loadtest.bench.launch import Setup
from loadtest.bench.processes import CannotRun, Processes
from loadtest.bench.systems import System
from loadtest.bench.traces import Trace
from loadtest.bench.wires import Wire, label_of

ASKED = 8
"""Texts whose labels are compared with those of the bare session before anything is measured."""


class Runner:
    """One running system, suspended but inside ``awake``; ``about`` is what is told of it. Raises CannotRun."""

    def __init__(self, system: System, setup: Setup, about: About) -> None:
        self.system = system
        self.home = setup.home
        self.about = about
        self.wires = list(system.wires)
        lack = perf_analyzer.why_absent()
        if lack:
            self.wires = [wire for wire in system.wires if wire.encode]
            about.notes += [f"{wire.row}: {lack}" for wire in system.wires if not wire.encode]
            if not self.wires:
                raise CannotRun(lack)
        self.addresses = [f"127.0.0.1:{port}" for port in setup.ports]
        started = system.launch(setup)
        self._processes = Processes(started.command, started.environ, launch.ROOT, setup.home / "log.txt")

    def begin(self, labels: Mapping[str, str]) -> None:
        """Wait for the first answer, compare some with ``labels`` (text to label), and suspend. Raises CannotRun."""
        texts = list(labels)[:ASKED]
        first = self.wires[0]
        try:
            self.about.ready = self._processes.wait_until(lambda: bool(self.ask(first, texts[0])), self.system.patience)
        except CannotRun:
            # It would go on trying, beside what is measured.
            self.stop()
            raise
        for wire in self.wires:
            other = [text for text in texts if self.ask(wire, text) != labels[text]]
            if other:
                self.about.notes.append(f"{wire.row}: {len(other)} of {len(texts)} labels are not the session's")
        self._sample()
        self._processes.settle()
        self._processes.suspend()

    def ask(self, wire: Wire, text: str) -> str:
        """The label of a text, empty where there is no answer."""
        if wire.encode is None:
            return _ask_grpc(self.address(wire), wire.model, text)
        headers, body = wire.encode(text)
        request = urllib.request.Request(f"http://{self.address(wire)}{wire.path}", body, headers)
        with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return label_of(dict(answer.headers), answer.read())
        return ""

    def address(self, wire: Wire) -> str:
        """host:port of a wire: HTTP is the first port, gRPC the second."""
        return self.addresses[0 if wire.encode else 1]

    def prepare(self, trace: Trace) -> None:
        """Write what the load generators send of a trace."""
        for wire in self.wires:
            if wire.encode:
                wrk.write_requests(self.requests(wire, trace), wire.requests(self.address(wire), trace.texts))
        perf_analyzer.write_texts(self.texts(trace), trace.texts)

    def requests(self, wire: Wire, trace: Trace) -> Path:
        """The file of a wire's requests."""
        return self.home / f"{trace.name}-{self.wires.index(wire)}.requests"

    def texts(self, trace: Trace) -> Path:
        """The file of a trace for perf_analyzer."""
        return self.home / f"{trace.name}.json"

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let the system run, and at the end finish what it was asked."""
        self._processes.resume()
        try:
            yield
            self._sample()
        finally:
            self._processes.settle()
            self._processes.suspend()

    def memory(self) -> int:
        """Bytes of all its processes now (PSS)."""
        return self._processes.memory()

    def stop(self) -> None:
        """End all its processes."""
        self._processes.stop()

    def _sample(self) -> None:
        self.about.memory = max(self.about.memory or 0, self.memory()) or None


def _ask_grpc(address: str, model: str, text: str) -> str:
    tensor = tritonclient.grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text]], np.object_))
    with suppress(InferenceServerException, OSError), tritonclient.grpc.InferenceServerClient(address) as client:
        answer = client.infer(model, [tensor], client_timeout=10)
        return str(answer.as_numpy("label").item().decode())
    return ""


def start_all(
    stack: ExitStack,
    wanted: Sequence[System],
    version: Path,
    traces: Sequence[Trace],
    session: Session,
    results: Results,
    console: Console,
) -> list[Runner]:
    """Start the systems one by one and suspend them; ``stack`` ends them. Those that cannot run are told in results."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="downstream-bench-")))
    labels = {text: session.label(text) for text in traces[0].texts[:ASKED]}
    runners = []
    for system in wanted:
        console.print(f"starting {system.name}", highlight=False)
        about = results.systems[system.name] = About(system.settings(session.cores), system.version())
        home = folder / system.name
        home.mkdir()
        setup = Setup(version.parent, version, launch.free_ports(3), home, session.cores)
        try:
            runner = Runner(system, setup, about)
            stack.callback(runner.stop)
            runner.begin(labels)
        except CannotRun as error:
            about.absent = str(error)
            console.print(f"  not measured: {error}", soft_wrap=True, highlight=False)
            continue
        for trace in traces:
            runner.prepare(trace)
            runner.prepare(trace.few)
        runners.append(runner)
    return runners
