"""``--workers 2``: two processes that answer as one server, whatever happens to one of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from serving.__main__ import main
from tests.serving.bundles import write_bundle
from tests.serving.server_process import PATIENCE, ROOT, ServerProcess, running
from tests.serving.test_main import DELAY, ONE_BY_ONE, TEXTS, labels_over_http, wait_until_rows_wait
from tests.serving.turns import polled

WORKERS = 2
OPTIONS = ("--workers", str(WORKERS), "--model-control", "explicit", "--allow-shared-memory")
OK = r'downstream_requests_total{.*outcome="ok"'
ROW = json.dumps({"instances": [{"text": "a"}]}).encode()


class Connections:
    """A connection to each worker; which one the kernel gives it to is seen by the socket that the process holds."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.by_worker: dict[int, http.client.HTTPConnection] = {}
        assert polled(self._complete, PATIENCE)

    def _complete(self) -> bool:
        connection = http.client.HTTPConnection(self.server.http, timeout=PATIENCE)
        ask(connection, "GET", "/v2/health/live")
        found = holder(self.server, connection)
        if found in self.by_worker:
            connection.close()
        else:
            self.by_worker[found] = connection
        return len(self.by_worker) == WORKERS

    def ask(self, method: str, path: str, body: bytes = b"") -> list[tuple[int, Any]]:
        """What each worker answers."""
        return [ask(connection, method, path, body) for connection in self.by_worker.values()]

    def metric(self, name: str) -> list[float]:
        """A metric, summed over its labels, as each worker tells it."""
        return [value(text, name) for _, text in self.ask("GET", "/metrics")]

    def successes(self) -> list[int]:
        """Answered requests of ``intent`` in the statistics, as each worker tells them."""
        told = [found["model_stats"][0] for _, found in self.ask("GET", "/v2/models/intent/stats")]
        return [found["inference_stats"]["success"]["count"] for found in told]

    @property
    def any(self) -> http.client.HTTPConnection:
        """One of them."""
        return next(iter(self.by_worker.values()))

    def close(self) -> None:
        for connection in self.by_worker.values():
            connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    connection.request(method, path, body)
    response = connection.getresponse()
    text = response.read().decode()
    return response.status, json.loads(text) if text.startswith(("{", "[")) else text


def children(server: ServerProcess) -> list[int]:
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    threads = Path(f"/proc/{server.process.pid}/task").iterdir()
    return sorted({int(child) for thread in threads for child in (thread / path.name).read_text().split()})


def leading(server: ServerProcess) -> int:
    """The process that verified the models."""
    log = "".join(server.log)
    found = re.search(r"worker (\d+): \S+ model intent version 1 proved itself", log)
    assert found
    return int(re.findall(rf"worker {found[1]} is process (\d+)", log)[0])


def holder(server: ServerProcess, connection: http.client.HTTPConnection) -> int:
    """The process at the other end of a connection."""
    local = connection.sock.getsockname()[1]
    port = int(server.http.rpartition(":")[2])
    inodes = {
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(f":{port:04X}") and fields[2].endswith(f":{local:04X}")
    }
    for child in children(server):
        for descriptor in Path(f"/proc/{child}/fd").iterdir():
            try:
                target = os.readlink(descriptor)
            except OSError:  # closed meanwhile
                continue
            if target.removeprefix("socket:[").rstrip("]") in inodes:
                return child
    raise AssertionError("no worker holds the connection")


def runs(process: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for yet has no command line."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def value(text: str, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(name, line))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Two workers over two models; shared by tests, so they look at differences."""
    folder = tmp_path_factory.mktemp("models")
    write_bundle(folder, "intent")
    write_bundle(folder, "topic", 2, backend="onnxruntime")
    with running(folder, *OPTIONS) as process:
        yield process


@pytest.fixture(scope="module")
def each(server: ServerProcess) -> Iterator[Connections]:
    connections = Connections(server)
    yield connections
    connections.close()


def test_every_worker_answers_and_tells_the_sums(server: ServerProcess, each: Connections) -> None:
    assert [status for status, _ in each.ask("GET", "/v2/health/ready")] == [200, 200]
    before, counted = each.metric(OK), each.successes()
    assert (len(set(before)), len(set(counted))) == (1, 1)
    assert [status for status, _ in each.ask("POST", "/v1/models/intent:predict", ROW)] == [200, 200]
    with grpc.insecure_channel(server.grpc) as channel:
        assert GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=PATIENCE).ready
    assert each.metric(OK) == [number + WORKERS for number in before]
    assert each.successes() == [number + WORKERS for number in counted]
    for _, text in each.ask("GET", "/metrics"):
        ready = [line for line in text.splitlines() if line.startswith('downstream_model_ready{model="intent"')]
        assert [line.rpartition(" ")[2] for line in ready] == ["1.0"]
        info = [line for line in text.splitlines() if line.startswith("downstream_model_info{")]
        assert [line.rpartition(" ")[2] for line in info] == ["1.0", "1.0"], "one for each model"
        assert text.count("# TYPE downstream_requests_total counter") == 1


def test_version_is_verified_by_one_worker_only(server: ServerProcess) -> None:
    assert sum("intent version 1 proved itself" in line for line in server.log) == 1


def test_what_one_worker_is_told_all_do_before_it_answers(each: Connections) -> None:
    one, other = each.by_worker.values()
    assert ask(one, "POST", "/v2/repository/models/topic/unload")[0] == 200
    assert [status for status, _ in each.ask("POST", "/v1/models/topic:predict", ROW)] == [404, 404]
    config = json.dumps({"parameters": {"config": '{"backend": "downstream", "max_batch_size": 2}'}}).encode()
    assert ask(other, "POST", "/v2/repository/models/topic/load", config)[0] == 200
    assert [found["max_batch_size"] for _, found in each.ask("GET", "/v2/models/topic/config")] == [2, 2]
    assert ask(one, "POST", "/v2/trace/setting", b'{"trace_rate": "7"}')[0] == 200
    assert [found["trace_rate"] for _, found in each.ask("GET", "/v2/trace/setting")] == ["7", "7"]
    assert ask(other, "POST", "/v2/logging", b'{"log_verbose_level": 3}')[0] == 200
    assert [found["log_verbose_level"] for _, found in each.ask("GET", "/v2/logging")] == [3, 3]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/trace/setting", b'{"trace_count": "5"}', 501),
        ("/v2/trace/setting", b'{"trace_rate": "0"}', 400),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": "/downstream-absent", "byte_size": 64}', 400),
        ("/v2/repository/models/absent/load", b"", 404),
    ],
)
def test_what_is_refused_changes_no_worker(each: Connections, path: str, body: bytes, status: int) -> None:
    told = ("/v2/trace/setting", "/v2/systemsharedmemory/status")
    before = [each.ask("GET", asked) for asked in told]
    answers = each.ask("POST", path, body)
    assert (answers[0], answers[0][0]) == (answers[1], status)
    assert [each.ask("GET", asked) for asked in told] == before


def test_version_that_fails_is_refused_by_all_with_one_reason_and_the_one_before_goes_on(tmp_path: Path) -> None:
    write_bundle(tmp_path, "intent")
    write_bundle(tmp_path, "broken", wrong_golden=True)
    with running(tmp_path, *OPTIONS) as server, closing(Connections(server)) as each:
        (first, second) = each.ask("GET", "/v2/health/ready")
        assert first == second
        assert (first[0], "golden rows are not reproduced" in first[1]["error"]) == (503, True)
        write_bundle(tmp_path, "intent", 2, damaged="golden.jsonl")
        assert [status for status, _ in each.ask("POST", "/v2/repository/models/intent/load")] == [400, 400]
        assert [status for status, _ in each.ask("POST", "/v1/models/intent:predict", ROW)] == [200, 200]
        indices = each.ask("POST", "/v2/repository/index")
        assert indices[0] == indices[1]
        assert "golden.jsonl was changed" in json.dumps(indices[0][1])
        assert each.metric("downstream_quarantined_total") == [3.0, 3.0]
        # Nobody would stop workers whose supervisor is gone.
        server.process.kill()
        assert polled(lambda: not any(map(runs, each.by_worker)), PATIENCE)


def test_worker_that_dies_is_replaced_by_one_that_knows_all_and_the_end_is_in_order(tmp_path: Path) -> None:
    write_bundle(tmp_path, "intent", delay=DELAY, max_batch_size=len(TEXTS))
    write_bundle(tmp_path, "topic")
    with running(tmp_path, *OPTIONS, *ONE_BY_ONE) as server, shared_memory() as region:
        with closing(Connections(server)) as each:
            one, other = each.by_worker.values()
            assert ask(one, "POST", "/v2/systemsharedmemory/region/r/register", region)[0] == 200
            assert ask(other, "POST", "/v2/repository/models/topic/unload")[0] == 200
            assert ask(one, "POST", "/v2/trace/setting", b'{"trace_rate": "7"}')[0] == 200
            follower = next(child for child in each.by_worker if child != leading(server))
        # The second time, the one that had taken the place leads.
        for victim in (leading(server), follower):
            replaced(server, victim)
        with closing(Connections(server)) as each:
            assert [status for status, _ in each.ask("POST", "/v1/models/topic:predict", ROW)] == [404, 404]
            assert [found["trace_rate"] for _, found in each.ask("GET", "/v2/trace/setting")] == ["7", "7"]
            assert [len(found) for _, found in each.ask("GET", "/v2/systemsharedmemory/status")] == [1, 1]
            assert ask(each.any, "POST", "/v2/repository/models/topic/load")[0] == 200
            assert [status for status, _ in each.ask("POST", "/v1/models/topic:predict", ROW)] == [200, 200]
        with ThreadPoolExecutor() as pool:
            call = pool.submit(labels_over_http, server, TEXTS)
            wait_until_rows_wait(server, call)
            server.stop()
            assert len(call.result(PATIENCE)) == len(TEXTS)
        assert server.exit_code() == 0
        assert "Traceback" not in "".join(server.log)


def replaced(server: ServerProcess, victim: int) -> None:
    """Kill a worker: the other goes on, nothing that was told is taken back, and then there are two again."""
    with closing(Connections(server)) as each:
        each.ask("POST", "/v1/models/intent:predict", ROW)
        (counted, _), (successes, _) = each.metric(OK), each.successes()
        os.kill(victim, signal.SIGKILL)
        survivor = next(connection for child, connection in each.by_worker.items() if child != victim)
        assert ask(survivor, "POST", "/v1/models/intent:predict", ROW)[0] == 200
        assert ask(survivor, "GET", "/v2/health/ready")[0] == 200
        assert value(ask(survivor, "GET", "/metrics")[1], OK) == counted + 1
        server.wait_for(re.compile("in its place again"))
    with closing(Connections(server)) as each:
        assert victim not in each.by_worker
        assert [status for status, _ in each.ask("GET", "/v2/health/ready")] == [200, 200]
        assert [status for status, _ in each.ask("POST", "/v1/models/intent:predict", ROW)] == [200, 200]
        assert each.metric(OK) == [counted + 1 + WORKERS] * WORKERS
        assert each.successes() == [successes + 1 + WORKERS] * WORKERS


@contextmanager
def shared_memory() -> Iterator[bytes]:
    """The body that registers a region which is there meanwhile."""
    path = Path("/dev/shm") / f"downstream-test-{os.getpid()}"
    path.write_bytes(bytes(64))
    try:
        yield json.dumps({"key": f"/{path.name}", "byte_size": 64}).encode()
    finally:
        path.unlink()


def test_workers_that_cannot_start_end_the_server_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "uvloop.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("serving.workers.supervisor.SHORTEST", 0.0)
    assert main([str(tmp_path), "--workers", "2", "--http-port", "0", "--grpc-port", "0"]) == 1
    assert "before it could serve; giving up" in caplog.text


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port"])
def test_port_that_is_taken_ends_the_server_before_a_worker_starts(
    option: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        ports = {"--http-port": "0", "--grpc-port": "0", option: str(taken.getsockname()[1])}
        assert main([str(tmp_path), "--workers", "2", *(word for pair in ports.items() for word in pair)]) == 2
    assert "cannot listen" in caplog.text
    assert "is process" not in caplog.text


def test_supervisor_loads_nothing_that_serves() -> None:
    script = "import sys, serving.__main__; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"onnxruntime", "grpc", "fastapi", "uvicorn", "numpy", "prometheus_client"} & set(found.stdout.split())
