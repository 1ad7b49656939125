"""NVIDIA's load generator measures the gateway and Triton with our backend, unchanged and in every mode."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conformance.conftest import Server
from tests.perf_analyzer import needs_perf_analyzer, perf_analyzer

TEXT = {"data": [{"text": ["I want my money back"]}, {"text": ["thanks"]}]}
TENSORS = {
    "data": [
        {name: {"content": content, "shape": [4]} for name, content in row.items()}
        for row in (
            {"input_ids": [1, 40, 41, 2], "attention_mask": [1, 1, 1, 1]},
            {"input_ids": [1, 90, 2, 0], "attention_mask": [1, 1, 1, 0]},
        )
    ]
}
LOADS = {"concurrency": ["--concurrency-range", "4"], "request rate": ["--request-rate-range", "50"]}


@pytest.mark.full
@needs_perf_analyzer
@pytest.mark.parametrize("kind", ["gateway", "triton"])
@pytest.mark.parametrize("face", ["http", "grpc"])
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("data", [TEXT, TENSORS], ids=["text", "tensors"])
def test_load_is_measured_with_the_server_s_own_times(
    request: pytest.FixtureRequest, kind: str, face: str, load: str, data: object, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(kind)
    file = tmp_path / "data.json"
    file.write_text(json.dumps(data))
    address = server.http if face == "http" else server.grpc
    report = perf_analyzer("intent", address, "-i", face, "--input-data", str(file), *LOADS[load])
    print(report)
    assert float(number(r"Throughput: ([\d.]+) infer/sec", report)) > 0
    assert int(number(r"Inference count: (\d+)", report)) > 0
    assert int(number(r"Successful request count: (\d+)", report)) > 0
    assert number(r"queue (\d+) usec", report)
    assert int(number(r"compute infer (\d+) usec", report)) > 0


def number(pattern: str, report: str) -> str:
    """The first match of a pattern, which must be there."""
    found = re.search(pattern, report)
    assert found, report
    return found[1]
