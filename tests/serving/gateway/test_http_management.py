"""The management half of KServe v2 over HTTP: configuration, statistics, repository, trace, log, shared memory."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from serving.gateway.app import build_app
from serving.gateway.management import Management
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import write_bundle

INFER = "/v2/models/intent/infer"
LOAD, UNLOAD = ("/v2/repository/models/intent/load", "/v2/repository/models/intent/unload")
CONFIG = '{"backend": "downstream", "max_batch_size": 2}'
STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


def infer(client: TestClient, *texts: str, path: str = INFER, **changes: Any) -> Any:
    data = {"name": "text", "datatype": "BYTES", "shape": [len(texts), 1], "data": list(texts)}
    return client.post(path, json={"inputs": [data], **changes})


def statistics(client: TestClient, path: str = "/v2/models/intent/stats") -> dict[str, Any]:
    (found,) = client.get(path).json()["model_stats"]
    assert isinstance(found, dict)
    return found


def counts(found: dict[str, Any]) -> dict[str, int]:
    """What the requests and the rows of a model's statistics came to, and how often each stage was counted."""
    return {
        "rows": found["inference_count"],
        "runs": found["execution_count"],
        **{stage: found["inference_stats"][stage]["count"] for stage in STAGES},
    }


def test_statistics_of_a_model_that_was_never_asked_are_whole_and_zero(client: TestClient) -> None:
    found = statistics(client)
    assert (found["name"], found["version"], found["last_inference"]) == ("intent", "1", 0)
    assert (found["inference_count"], found["execution_count"], found["batch_stats"]) == (0, 0, [])
    assert (found["response_stats"], found["memory_usage"]) == ({}, [])
    assert found["inference_stats"] == {stage: {"count": 0, "ns": 0} for stage in STAGES}


def test_request_of_three_rows_is_one_success_and_three_inferences(client: TestClient) -> None:
    infer(client, "a", "b", "c")
    found = statistics(client)
    assert found["last_inference"] > 0
    stages = dict.fromkeys(("success", "queue", "compute_input", "compute_infer", "compute_output"), 1)
    runs = found["execution_count"]
    assert 1 <= runs <= 3
    assert counts(found) == {"rows": 3, "runs": runs, **dict.fromkeys(STAGES, 0), **stages}
    assert sum(batch["batch_size"] * batch["compute_infer"]["count"] for batch in found["batch_stats"]) == 3
    times = found["inference_stats"]
    assert times["success"]["ns"] >= times["queue"]["ns"] + times["compute_infer"]["ns"]
    assert times["compute_infer"]["ns"] > 0


def test_every_way_of_asking_is_counted_and_what_never_reached_the_model_is_not(client: TestClient) -> None:
    infer(client, "a")
    client.post("/v2/models/intent/generate", json={"text": "a"})
    client.post("/v1/models/intent:predict", json={"instances": [{"text": "a"}, {"text": "b"}]})
    assert counts(statistics(client))["success"] == 3
    assert counts(statistics(client))["rows"] == 4
    for refused in ({"inputs": []}, {"inputs": [], "parameters": {"triton_x": 1}}):
        assert client.post(INFER, json=refused).status_code == 400
    assert infer(client, "a", outputs=[{"name": "nope"}]).status_code == 400
    assert counts(statistics(client))["success"] + counts(statistics(client))["fail"] == 3
    assert infer(client, "a", "").status_code == 400
    found = counts(statistics(client))
    assert (found["success"], found["fail"]) == (3, 1)


def test_answers_from_the_cache_are_successes_without_a_run(repository: Repository, metrics: Metrics) -> None:
    write_bundle(repository.folder, config="response_cache { enable: true }")
    repository.load_all()
    client = TestClient(build_app(Management(Inference(repository, metrics, Settings()), explicit=False), metrics, 999))
    answers = [infer(client, text).json() for text in "aaba"]
    assert answers[0] == answers[1] == answers[3] != answers[2]
    found = counts(statistics(client))
    assert (found["success"], found["cache_hit"], found["cache_miss"]) == (4, 2, 2)
    assert (found["rows"], found["runs"], found["compute_infer"]) == (2, 2, 2)


def test_statistics_have_three_forms_of_url(client: TestClient, repository: Repository) -> None:
    write_bundle(repository.folder, "other", 3)
    write_bundle(repository.folder, "other", 12, config="version_policy { all { } }")
    repository.load("other")

    def told(path: str) -> list[tuple[str, str]]:
        return [(found["name"], found["version"]) for found in client.get(path).json()["model_stats"]]

    assert told("/v2/models/stats") == [("intent", "1"), ("other", "3"), ("other", "12")]
    assert told("/v2/models/other/stats") == [("other", "3"), ("other", "12")]
    assert told("/v2/models/other/versions/3/stats") == [("other", "3")]
    infer(client, "a", path="/v2/models/other/versions/3/infer")
    infer(client, "a", "b", path="/v2/models/other/infer")
    assert statistics(client, "/v2/models/other/versions/3/stats")["inference_count"] == 1
    assert statistics(client, "/v2/models/other/versions/12/stats")["inference_count"] == 2


@pytest.mark.parametrize("what", ["stats", "config"])
def test_unknown_model_or_version_is_not_found_by_name(client: TestClient, what: str) -> None:
    for path in (f"/v2/models/absent/{what}", f"/v2/models/absent/versions/1/{what}"):
        response = client.get(path)
        assert (response.status_code, list(response.json())) == (404, ["error"])
        assert "'absent'" in response.json()["error"]
    response = client.get(f"/v2/models/intent/versions/7/{what}")
    assert response.status_code == 404
    assert "'intent' version 7" in response.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/intent/config", "/v2/models/intent/versions/1/config"])
def test_configuration_is_what_clients_of_triton_read_from_it(client: TestClient, path: str) -> None:
    found = client.get(path).json()
    assert (found["name"], found["backend"], found["max_batch_size"]) == ("intent", "downstream", 4)
    metadata = client.get("/v2/models/intent").json()
    for kind in ("input", "output"):
        assert [item["name"] for item in found[kind]] == [item["name"] for item in metadata[f"{kind}s"]]
        assert [[-1, *item["dims"]] for item in found[kind]] == [item["shape"] for item in metadata[f"{kind}s"]]
    assert all(item["optional"] is True for item in found["input"])
    assert found["dynamic_batching"]["max_queue_delay_microseconds"] == 0
    assert found["version_policy"] == {"latest": {"num_versions": 1}}
    assert found["instance_group"][0]["kind"] == "KIND_CPU"
    assert found["parameters"] == {"model_digest": {"string_value": metadata["parameters"]["model_digest"]}}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": false}', b'{"ready": true}', b'{"unknown": 1}'])
def test_index_takes_an_empty_body_as_well(client: TestClient, body: bytes) -> None:
    assert client.post("/v2/repository/index", content=body).json() == [
        {"name": "intent", "version": "1", "state": "READY"}
    ]


def test_index_tells_why_a_version_is_not_ready_or_leaves_it_out(client: TestClient, repository: Repository) -> None:
    write_bundle(repository.folder, "bad", wrong_golden=True)
    (repository.folder / "odd").mkdir()
    (repository.folder / "odd" / "config.pbtxt").write_text("nonsense", "utf-8")
    repository.load_all()
    bad, intent, odd = client.post("/v2/repository/index").json()
    assert (bad["name"], bad["version"], bad["state"]) == ("bad", "1", "UNAVAILABLE")
    assert "golden" in bad["reason"]
    assert intent == {"name": "intent", "version": "1", "state": "READY"}
    assert (odd["name"], odd["state"], "version" in odd) == ("odd", "UNAVAILABLE", False)
    assert [entry["name"] for entry in client.post("/v2/repository/index", json={"ready": True}).json()] == ["intent"]


def test_model_is_unloaded_and_loaded_with_empty_answers(client: TestClient) -> None:
    for path in (UNLOAD, UNLOAD, LOAD, LOAD):
        response = client.post(path, json={"parameters": {}})
        assert (response.status_code, response.content) == (200, b"")
        assert infer(client, "a").status_code == (404 if path == UNLOAD else 200)
    assert client.post(UNLOAD, json={"parameters": {"unload_dependents": True}}).status_code == 200
    assert "has no available versions" in infer(client, "a").json()["error"]
    assert client.post(LOAD).status_code == 200


def test_load_takes_a_configuration_and_files(client: TestClient, tmp_path: Path) -> None:
    assert client.post(LOAD, json={"parameters": {"config": CONFIG}}).status_code == 200
    assert infer(client, "a", "b", "c").status_code == 400
    folder = write_bundle(tmp_path / "elsewhere", "guest")
    files = {
        f"file:1/{path.relative_to(folder).as_posix()}": base64.b64encode(path.read_bytes()).decode()
        for path in folder.rglob("*")
        if path.is_file()
    }
    response = client.post("/v2/repository/models/guest/load", json={"parameters": {"config": CONFIG, **files}})
    assert response.status_code == 200, response.text
    assert infer(client, "a", path="/v2/models/guest/infer").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v2/repository/index", b'{"ready": 1}', 400, "ready: must be true or false, got 1"),
        ("/v2/repository/index", b"[]", 400, "JSON object"),
        ("/v2/repository/index", b"{", 400, "JSON"),
        (LOAD, b'{"parameters": []}', 400, "parameters: must be an object"),
        (LOAD, b'{"parameters": {"foo": 1}}', 400, "unrecognized load parameter, got 'foo'"),
        (LOAD, b'{"parameters": {"config": "{"}}', 400, "not the JSON of a Triton model configuration"),
        (UNLOAD, b'{"parameters": 1}', 400, "parameters: must be an object"),
        (UNLOAD, b"nonsense", 400, "JSON"),
        ("/v2/repository/models/absent/load", b"", 404, "failed to load 'absent'"),
        ("/v2/repository/models/%2e%2e/load", b"", 404, "failed to load '..'"),
        ("/v2/repository/models/absent/unload", b"", 404, "'absent'"),
        ("/v2/trace/setting", b'{"trace_rate": "0"}', 400, "trace_rate"),
        ("/v2/trace/setting", b'{"trace_file": "x"}', 501, "--trace-file"),
        ("/v2/models/absent/trace/setting", b"{}", 404, "'absent'"),
        ("/v2/logging", b'{"log_info": 1}', 400, "log_info"),
        ("/v2/logging", b'{"log_file": "x"}', 501, "log file"),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": "/a", "byte_size": 1}', 501, "disabled"),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": 1, "byte_size": 1}', 400, "a region needs key"),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": "/a"}', 400, "a region needs key"),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": "/a", "byte_size": true}', 400, "a region needs key"),
        ("/v2/systemsharedmemory/region/r/register", b'{"key": "/a", "byte_size": 1.0}', 400, "a region needs key"),
        ("/v2/cudasharedmemory/region/r/register", b'{"raw_handle": {"b64": ""}}', 501, "CUDA shared memory"),
    ],
)
def test_what_is_wrong_is_refused_with_its_reason_and_changes_nothing(
    client: TestClient, path: str, body: bytes, status: int, said: str
) -> None:
    response = client.post(path, content=body)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert said in response.json()["error"]
    assert infer(client, "a").status_code == 200


def test_server_that_was_not_started_so_loads_nothing(loaded: Repository, inference: Inference) -> None:
    app = build_app(Management(inference, explicit=False), Metrics(CollectorRegistry()), 2**20)
    client = TestClient(app)
    for path in (LOAD, UNLOAD):
        response = client.post(path)
        assert response.status_code == 503
        assert "--model-control explicit" in response.json()["error"]
    assert client.post(LOAD, content=b"nonsense").status_code == 400
    assert client.post("/v2/repository/index").status_code == 200


def test_trace_settings_of_all_models_and_of_one(client: TestClient) -> None:
    everything, own = "/v2/trace/setting", "/v2/models/intent/trace/setting"
    assert client.get(everything).json()["trace_level"] == ["OFF"]
    assert client.post(everything, json={"trace_rate": "7"}).json()["trace_rate"] == "7"
    assert client.post(own, json={"trace_rate": "9", "trace_count": "5"}).json()["trace_rate"] == "9"
    assert (client.get(everything).json()["trace_rate"], client.get(own).json()["trace_rate"]) == ("7", "9")
    assert client.post(own, json={"trace_rate": None}).json()["trace_rate"] == "7"
    assert client.get(own).json()["trace_count"] == "5"
    for body in (b"", b"{}"):
        assert client.post(everything, content=body).json() == client.get(everything).json()


def test_log_settings_are_told_and_changed(client: TestClient) -> None:
    before = client.get("/v2/logging").json()
    assert set(before) == {"log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format"}
    changed = client.post("/v2/logging", json={"log_verbose_level": 3, "log_info": False}).json()
    assert changed == {**before, "log_verbose_level": 3, "log_info": False}
    assert client.get("/v2/logging").json() == changed


@pytest.mark.parametrize("kind", ["system", "cuda"])
def test_shared_memory_of_either_kind_is_empty_and_can_be_forgotten(client: TestClient, kind: str) -> None:
    assert client.get(f"/v2/{kind}sharedmemory/status").json() == []
    for path in ("unregister", "region/r/unregister"):
        response = client.post(f"/v2/{kind}sharedmemory/{path}")
        assert (response.status_code, response.content) == (200, b"")
    response = client.get(f"/v2/{kind}sharedmemory/region/r/status")
    assert response.status_code == {"system": 404, "cuda": 501}[kind]
    assert list(response.json()) == ["error"]


def test_body_over_the_limit_is_refused_on_every_route(client: TestClient) -> None:
    for path in ("/v2/repository/index", LOAD, "/v2/logging", "/v2/trace/setting"):
        response = client.post(path, content=b" " * (2**20 + 1))
        assert (response.status_code, list(response.json())) == (413, ["error"])


def test_client_that_leaves_in_the_middle_of_its_body_changes_nothing(client: TestClient, loaded: Repository) -> None:
    messages = iter([{"type": "http.request", "body": b"", "more_body": True}])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        assert message.get("status") != 200

    scope = {"type": "http", "method": "POST", "path": UNLOAD, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(client.app(scope, receive, send))  # type: ignore[operator]
    assert loaded.versions("intent") == [1]


def test_models_that_load_keep_no_rows_from_being_encoded(
    management: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that are long are encoded in the event loop's threads, of which there are few."""
    released = threading.Event()

    def slowly(*_: object) -> None:
        released.wait()

    monkeypatch.setattr(management.repository, "load", slowly)

    async def play() -> None:
        loads = [asyncio.create_task(management.load("intent", {})) for _ in range(64)]
        for _ in range(64):
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await asyncio.to_thread(released.set)
            await asyncio.gather(*loads)

    asyncio.run(play())


def test_internal_error_has_the_form_of_every_other(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, inference: Inference
) -> None:
    def failing(*_: object) -> Callable[[], None]:
        raise RuntimeError("secret")

    monkeypatch.setattr(inference.logging, "settings", failing)
    response = client.get("/v2/logging")
    assert (response.status_code, list(response.json())) == (500, ["error"])
    assert "secret" not in json.dumps(response.json())
