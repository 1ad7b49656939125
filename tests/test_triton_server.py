"""The real Triton server that other tests run: it answers on both faces, says why it does not start, leaves nothing."""

from __future__ import annotations

import socket
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.triton.echo_model import echo_backend, echo_repository
from tests.triton_server import needs_triton, running_triton

ROOT = Path(__file__).parents[1]
TEXTS = np.array([["a"], ["ä\n"], [""]], dtype=object)


def echoed(client_module: ModuleType, address: str) -> list[list[bytes]]:
    text = client_module.InferInput("text", TEXTS.shape, "BYTES")
    text.set_data_from_numpy(TEXTS)
    with client_module.InferenceServerClient(address) as client:
        return client.infer("echo", [text]).as_numpy("echo").tolist()


def is_open(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@needs_triton
def test_it_answers_on_both_faces_and_leaves_nothing(tmp_path: Path) -> None:
    with running_triton(echo_repository(tmp_path / "models"), echo_backend(tmp_path / "backends")) as server:
        expected = [[text.encode()] for (text,) in TEXTS]
        assert echoed(tritonclient.http, server.http) == expected
        assert echoed(tritonclient.grpc, server.grpc) == expected
        assert is_open(server.metrics)
        assert [region.exists() for region in server.regions] == [True]
    assert server.exit_code() == 0, server.log
    assert not any(map(is_open, (server.http, server.grpc, server.metrics)))
    assert not any(region.exists() for region in server.regions)


@needs_triton
def test_nothing_is_left_of_a_server_that_was_killed(tmp_path: Path) -> None:
    with running_triton(echo_repository(tmp_path / "models"), echo_backend(tmp_path / "backends")) as server:
        server.process.kill()
    assert server.exit_code() < 0
    assert len(server.regions) == 1
    assert not any(region.exists() for region in server.regions)
    assert server.interpreters() == {}


@needs_triton
def test_a_model_that_cannot_be_loaded_is_told_with_the_log(tmp_path: Path) -> None:
    models, backends = echo_repository(tmp_path / "models", "broken"), echo_backend(tmp_path / "backends")
    with (
        pytest.raises(AssertionError, match=r"(?s)ended with code 1.*this model is broken"),
        running_triton(models, backends),
    ):
        pass


def test_its_models_run_with_our_versions_but_for_numpy() -> None:
    """What is verified in this environment and what runs in the server's are the same code."""
    ours, its = (pins(ROOT / name) for name in ("constraints.txt", "constraints-triton.txt"))
    assert {name for name in its if its[name] != ours.get(name, its[name])} == {"numpy"}
    assert its["numpy"].startswith("1.")


def pins(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)
