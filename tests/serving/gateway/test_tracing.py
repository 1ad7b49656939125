"""Which requests are traced, and a file that is whole JSON after every one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from serving.call import Call, Timing
from serving.errors import InvalidInput, Unsupported
from serving.gateway.app import build_app
from serving.gateway.management import Management
from serving.gateway.tracing import Tracing
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings

ALL = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
CALL = Call(timings=[Timing(received=11, queued=12, begun=13, stacked=14, inferred=15, decoded=16)])


def traced(tracing: Tracing, *identifiers: str, model: str = "m") -> None:
    for identifier in identifiers:
        tracing.request(model, 1, identifier, 10, 20, CALL)


def requests_in(path: Path) -> list[str]:
    """The ids of the requests that a trace file holds, whose events are consecutive."""
    events = json.loads(path.read_text("utf-8"))
    return [event["request_id"] for event in events if "model_name" in event]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where traces go; nothing is there yet."""
    return tmp_path / "trace.json"


@pytest.fixture
def tracing(file: Path) -> Tracing:
    """Every request is traced."""
    tracing = Tracing(str(file))
    tracing.update(ALL)
    return tracing


def test_nothing_is_traced_before_a_client_asks_for_it(file: Path) -> None:
    tracing = Tracing(str(file))
    assert tracing.settings() == {
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_mode": "triton",
        "trace_file": str(file),
    }
    traced(tracing, "a")
    assert not file.exists()


def test_request_has_its_timestamps_in_order_under_one_id(tracing: Tracing, file: Path) -> None:
    tracing.request("m", 3, "ü", 10, 20, CALL)
    tracing.request("m", 3, "", 30, 40, Call())
    about, *stamps = json.loads(file.read_text("utf-8"))
    assert about == {"id": 1, "model_name": "m", "model_version": 3, "request_id": "ü"}
    first = [(e["timestamps"][0]["name"], e["timestamps"][0]["ns"]) for e in stamps if e["id"] == 1]
    assert first == [
        ("REQUEST_START", 10),
        ("QUEUE_START", 12),
        ("COMPUTE_START", 13),
        ("COMPUTE_INPUT_END", 14),
        ("COMPUTE_OUTPUT_START", 15),
        ("COMPUTE_END", 16),
        ("REQUEST_END", 20),
    ]
    second = [event for event in stamps if event["id"] == 2]
    assert second[0] == {"id": 2, "model_name": "m", "model_version": 3}
    assert [event["timestamps"][0]["name"] for event in second[1:]] == ["REQUEST_START", "REQUEST_END"]


def test_file_is_whole_after_every_request(tracing: Tracing, file: Path) -> None:
    for count in range(1, 6):
        traced(tracing, str(count))
        assert requests_in(file) == [str(number) for number in range(1, count + 1)]


def test_rate_traces_every_so_many_requests_of_a_model(tracing: Tracing, file: Path) -> None:
    tracing.update({"trace_rate": "3"})
    traced(tracing, *"abcdefg")
    traced(tracing, "x", "y", model="other")
    assert requests_in(file) == ["c", "f"]


def test_count_ends_tracing_and_is_told_as_what_is_left(tracing: Tracing, file: Path) -> None:
    tracing.update({"trace_count": "2"})
    traced(tracing, "a")
    assert tracing.settings()["trace_count"] == "1"
    traced(tracing, "b", "c")
    assert tracing.settings()["trace_count"] == "0"
    assert requests_in(file) == ["a", "b"]
    tracing.update({"trace_count": "1"})
    traced(tracing, "d", "e")
    assert requests_in(file) == ["a", "b", "d"]


def test_frequency_begins_a_new_file_every_so_many_traces(tracing: Tracing, file: Path) -> None:
    tracing.update({"log_frequency": "2"})
    traced(tracing, *"abcde")
    names = [file.with_name(f"trace.json.{number}") for number in range(3)]
    assert [requests_in(name) for name in names] == [["a", "b"], ["c", "d"], ["e"]]
    assert not file.exists()


def test_model_has_settings_of_its_own_and_follows_the_others(tracing: Tracing, file: Path) -> None:
    tracing.update({"trace_level": ["OFF"]})
    tracing.update({"trace_level": ["TIMESTAMPS"], "trace_count": "1"}, "m")
    tracing.update({"trace_rate": "1", "trace_count": "7"})
    assert tracing.settings("m") == {**tracing.settings(), "trace_level": ["TIMESTAMPS"], "trace_count": "1"}
    traced(tracing, "a", "b")
    traced(tracing, "c", model="other")
    assert requests_in(file) == ["a"]
    assert (tracing.settings("m")["trace_count"], tracing.settings()["trace_count"]) == ("0", "7")


def test_none_puts_a_setting_back(tracing: Tracing) -> None:
    tracing.update({"trace_rate": "7"}, "m")
    assert tracing.update({"trace_rate": None}, "m")["trace_rate"] == "1"
    assert tracing.update({"trace_rate": None, "trace_level": None})["trace_rate"] == "1000"
    assert tracing.settings()["trace_level"] == ["OFF"]


def test_model_can_be_taken_out_while_the_others_are_traced(tracing: Tracing, file: Path) -> None:
    tracing.update({"trace_level": ["OFF"]}, "m")
    traced(tracing, "a")
    traced(tracing, "b", model="other")
    assert requests_in(file) == ["b"]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"trace_rate": "0"}, InvalidInput, "'trace_rate'. Expecting value >= 1, got: '0'"),
        ({"trace_rate": "-1"}, InvalidInput, "trace_rate"),
        ({"trace_rate": "x"}, InvalidInput, "Unable to parse 'trace_rate', got: 'x'"),
        ({"trace_rate": True}, InvalidInput, "trace_rate"),
        ({"trace_rate": 1.5}, InvalidInput, "trace_rate"),
        ({"trace_rate": ["1"]}, InvalidInput, "trace_rate"),
        ({"trace_rate": "9" * 5000}, InvalidInput, "trace_rate"),
        ({"trace_count": "-2"}, InvalidInput, "Expecting value >= -1, got: '-2'"),
        ({"log_frequency": "-1"}, InvalidInput, "log_frequency"),
        ({"trace_level": "TIMESTAMPS"}, InvalidInput, "must be a list of OFF or TIMESTAMPS, got 'TIMESTAMPS'"),
        ({"trace_level": []}, InvalidInput, "must be a list"),
        ({"trace_level": [1]}, InvalidInput, "must be a list"),
        ({"trace_level": ["TIMESTAMPS", "TENSORS"]}, Unsupported, "not offered; give one of OFF, TIMESTAMPS"),
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, Unsupported, "not offered"),
        ({"trace_mode": "opentelemetry"}, Unsupported, "the only one is 'triton'"),
        ({"trace_file": "/etc/passwd"}, Unsupported, "give --trace-file"),
        ({"trace_files": "x"}, InvalidInput, "unknown trace setting, got 'trace_files'"),
    ],
)
def test_wrong_setting_is_refused_and_none_of_the_others_is_changed(
    tracing: Tracing, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    before = tracing.settings()
    with pytest.raises(error) as caught:
        tracing.update({"log_frequency": "5", **changes} if "log_frequency" not in changes else changes)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
    assert tracing.settings() == before


def test_server_without_a_file_says_how_to_get_one() -> None:
    with pytest.raises(InvalidInput, match="start the server with --trace-file"):
        Tracing().update(ALL)
    assert Tracing().update({"trace_rate": "5"})["trace_rate"] == "5"


def test_file_that_another_server_left_is_written_anew(tracing: Tracing, file: Path) -> None:
    file.write_text('[{"id": 1}]\n', "utf-8")
    traced(tracing, "a", "b")
    assert requests_in(file) == ["a", "b"]


@pytest.mark.parametrize("take", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["removed", "emptied"])
def test_file_that_was_taken_away_begins_anew(tracing: Tracing, file: Path, take: Callable[[Path], Any]) -> None:
    traced(tracing, "a")
    take(file)
    traced(tracing, "b", "c")
    assert requests_in(file) == ["b", "c"]


@pytest.fixture
def server(loaded: Repository, file: Path) -> tuple[TestClient, Tracing]:
    """A client of an application that may trace, and what it traces with."""
    metrics = Metrics(CollectorRegistry())
    inference = Inference(loaded, metrics, Settings(trace_file=str(file)))
    return TestClient(build_app(Management(inference, explicit=False), metrics, 2**20)), inference.tracing


def test_requests_of_every_route_are_traced_in_the_order_of_time(
    server: tuple[TestClient, Tracing], file: Path
) -> None:
    client, _ = server
    assert client.post("/v2/trace/setting", json=ALL).json()["trace_level"] == ["TIMESTAMPS"]
    text = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]}
    client.post("/v2/models/intent/infer", json={"id": "r1", "inputs": [text]})
    client.post("/v2/models/intent/generate", json={"id": "r2", "text": "a"})
    client.post("/v1/models/intent:predict", json={"instances": [{"text": "a"}]})
    events = json.loads(file.read_text("utf-8"))
    assert [event.get("request_id") for event in events if "model_name" in event] == ["r1", "r2", None]
    for number in (1, 2, 3):
        stamps = [event["timestamps"][0] for event in events if event["id"] == number and "timestamps" in event]
        assert len(stamps) == 7
        assert all(first["ns"] <= second["ns"] for first, second in pairwise(stamps))


def test_traces_that_cannot_be_written_fail_no_request_and_end(
    server: tuple[TestClient, Tracing], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client, tracing = server
    tracing.update(ALL)
    tracing.update(ALL, "intent")
    file.mkdir()
    for _ in range(2):
        assert client.post("/v1/models/intent:predict", json={"instances": [{"text": "a"}]}).status_code == 200
    assert client.get("/v2/trace/setting").json()["trace_level"] == ["OFF"]
    assert client.get("/v2/models/intent/trace/setting").json()["trace_level"] == ["OFF"]
    (record,) = caplog.records
    assert "traces cannot be written" in record.message
    assert str(file) in record.message
