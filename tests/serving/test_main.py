"""The command ``python -m serving``: what it refuses, and how it stops."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import deserialize_bytes_tensor

from serving.__main__ import main
from tests.serving.bundles import LABELS, write_bundle
from tests.serving.server_process import PATIENCE, ServerProcess, running
from tests.serving.wires import post

# Twenty rows of 30 ms on one runner, one by one since no two are of one length: time for the signal to come.
TEXTS = tuple("x" * length for length in range(1, 21))
DELAY = 0.03
ONE_BY_ONE = ("--runners", "1", "--max-waste", "1")


Labels = Callable[[ServerProcess, Sequence[str]], list[str]]


def test_folder_that_does_not_exist_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent")]) == 2
    assert "absent: no such folder" in capsys.readouterr().err


def test_wrong_settings_are_refused_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--runners", "many", "--log-level", "loud"]) == 2
    said = capsys.readouterr().err
    assert "--runners" in said
    assert "--log-level" in said


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port"])
def test_port_that_is_taken_ends_the_server_with_a_reason(
    option: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--http-port": "0", "--grpc-port": "0", option: str(taken.getsockname()[1])}
        assert main([str(tmp_path), *(word for pair in ports.items() for word in pair)]) == 2
    assert "cannot listen" in caplog.text
    assert option in caplog.text


def get(server: ServerProcess, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.http, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def wait_until_rows_wait(server: ServerProcess, call: Future[list[str]]) -> None:
    """Return once rows of this call wait for the runner, by the server's own metrics."""
    waiting = re.compile(r"downstream_waiting_rows\{.*\} [1-9]")
    while not waiting.search(get(server, "/metrics")[1]):
        assert not call.done()


def labels_over_http(server: ServerProcess, texts: Sequence[str]) -> list[str]:
    body = json.dumps({"instances": [{"text": text} for text in texts]}).encode()
    status, answer = post(server, "/v1/models/intent:predict", body)
    assert status == 200
    return [prediction["label"] for prediction in answer["predictions"]]


def labels_over_grpc(server: ServerProcess, texts: Sequence[str]) -> list[str]:
    request = pb.ModelInferRequest(model_name="intent", outputs=[{"name": "label"}])
    item = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts), 1])
    item.contents.bytes_contents.extend(text.encode() for text in texts)
    with grpc.insecure_channel(server.grpc) as channel:
        response = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=PATIENCE)
    return [label.decode() for label in deserialize_bytes_tensor(response.raw_output_contents[0])]


@pytest.mark.parametrize("labels", [labels_over_http, labels_over_grpc])
def test_sigterm_answers_what_is_in_flight_and_ends_with_0(labels: Labels, tmp_path: Path) -> None:
    write_bundle(tmp_path, delay=DELAY, max_batch_size=len(TEXTS))
    with running(tmp_path, *ONE_BY_ONE) as server, ThreadPoolExecutor() as pool:
        assert is_ready(server)
        call = pool.submit(labels, server, TEXTS)
        wait_until_rows_wait(server, call)
        server.stop()
        server.wait_for(re.compile("stopping"))
        assert not is_ready(server)
        assert len([label for label in call.result(PATIENCE) if label in LABELS]) == len(TEXTS)
        assert server.exit_code() == 0
        assert "Traceback" not in "".join(server.log)


def test_during_the_drain_delay_the_server_is_not_ready_but_answers(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    with running(tmp_path, "--drain-delay", "3600") as server:
        server.stop()
        server.wait_for(re.compile("stopping"))
        status, text = get(server, "/v2/health/ready")
        assert (status, "stopping" in text) == (503, True)
        assert get(server, "/v2/health/live")[0] == 200
        assert labels_over_http(server, ["a"]) == labels_over_grpc(server, ["a"])


def is_ready(server: ServerProcess) -> bool:
    """Whether a load balancer would still send requests: a closed port counts as not ready."""
    try:
        return get(server, "/v2/health/ready")[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False
