"""perf_analyzer runs, as installed, against the server that it was made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.perf_analyzer import needs_perf_analyzer, perf_analyzer
from tests.triton.echo_model import echo_backend, echo_repository
from tests.triton_server import running_triton


@pytest.mark.full
@needs_perf_analyzer
def test_it_measures_the_real_server_on_both_faces(tmp_path: Path) -> None:
    with running_triton(echo_repository(tmp_path / "models"), echo_backend(tmp_path / "backends")) as server:
        for face, address in (("http", server.http), ("grpc", server.grpc)):
            report = perf_analyzer("echo", address, "-i", face, "--string-data", "hello")
            assert "Throughput:" in report
            # The server's own view, which it reads from the statistics.
            assert "Inference count:" in report
    assert server.exit_code() == 0, server.log
