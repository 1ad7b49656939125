"""Health, metadata, index, metrics and docs over HTTP, and one form for every error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.gateway.app import build_app
from serving.gateway.management import Management
from serving.gateway.openapi import HOT_PATHS
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import LABELS, write_bundle

ROW = {"text": "hello"}


def managed(repository: Repository, metrics: Metrics) -> Management:
    return Management(Inference(repository, metrics, Settings()), explicit=False)


def test_server_is_live_before_anything_is_loaded_and_ready_only_after(
    repository: Repository, metrics: Metrics
) -> None:
    client = TestClient(build_app(managed(repository, metrics), metrics, 2**20))
    write_bundle(repository.folder)
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 503
    repository.load_all()
    assert client.get("/v2/health/ready").status_code == 200


def test_server_that_is_stopping_is_live_but_not_ready(client: TestClient, inference: Inference) -> None:
    inference.stopping = True
    assert client.get("/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/intent/ready", "/v2/models/intent/versions/1/ready"):
        assert client.get(path).status_code == 503
    assert "stopping" in client.get("/v2/health/ready").json()["error"]
    assert client.post("/v1/models/intent:predict", json={"instances": [ROW]}).status_code == 200


def test_quarantined_model_is_told_wherever_one_looks(repository: Repository, metrics: Metrics) -> None:
    write_bundle(repository.folder, wrong_golden=True)
    repository.load_all()
    client = TestClient(build_app(managed(repository, metrics), metrics, 2**20))
    assert "golden" in client.get("/v2/health/ready").json()["error"]
    assert client.get("/v2/models/intent/ready").status_code == 503
    (entry,) = client.post("/v2/repository/index").json()
    assert (entry["name"], entry["version"], entry["state"]) == ("intent", "1", "UNAVAILABLE")
    assert "golden" in entry["reason"]
    response = client.post("/v1/models/intent:predict", json={"instances": [ROW]})
    assert response.status_code == 503
    assert "golden" in response.json()["error"]
    assert 'downstream_quarantined_total{model="intent",version="1"} 1.0' in client.get("/metrics").text
    assert client.get("/v1/models").json() == {"models": []}


def test_model_and_version_are_ready_or_unknown(client: TestClient) -> None:
    assert client.get("/v2/models/intent/ready").status_code == 200
    assert client.get("/v2/models/intent/versions/1/ready").status_code == 200
    assert client.get("/v2/models/intent/versions/2/ready").status_code == 404
    assert client.get("/v2/models/absent/ready").status_code == 404


def test_server_metadata_has_name_version_and_extensions(client: TestClient) -> None:
    found = client.get("/v2").json()
    assert found["name"] == "downstream"
    assert found["version"]
    assert "binary_tensor_data" in found["extensions"]


@pytest.mark.parametrize("path", ["/v2/models/intent", "/v2/models/intent/versions/1"])
def test_model_metadata_has_the_wire_shapes(client: TestClient, path: str) -> None:
    found = client.get(path).json()
    assert (found["name"], found["versions"]) == ("intent", ["1"])
    assert found["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1, 1]}
    shapes = {output["name"]: (output["datatype"], output["shape"]) for output in found["outputs"]}
    assert shapes["label"] == ("BYTES", [-1, 1])
    assert shapes["probabilities"] == ("FP32", [-1, len(LABELS)])


def test_index_lists_every_version(client: TestClient) -> None:
    assert client.post("/v2/repository/index").json() == [{"name": "intent", "version": "1", "state": "READY"}]


def test_page_of_a_model_says_what_it_is_and_its_example_can_be_sent(client: TestClient) -> None:
    assert client.get("/v1/models").json() == {"models": ["intent"]}
    found = client.get("/v1/models/intent").json()
    assert (found["task"], found["versions"], found["axes"]) == ("text-classification", [1], {"labels": list(LABELS)})
    assert client.post("/v1/models/intent:predict", json={"instances": [found["example"]]}).status_code == 200


def test_metrics_count_requests_by_outcome_and_tokens_with_their_padding(
    client: TestClient, sample: Callable[..., float | None]
) -> None:
    for rows in ([ROW], [ROW, ROW], [{"text": ""}]):
        client.post("/v1/models/intent:predict", json={"instances": rows})
    client.post("/v1/models/absent:predict", json={"instances": [ROW]})
    text = client.get("/metrics").text
    for metric in ("requests", "tokens", "padded_tokens"):
        assert f'downstream_{metric}_total{{model="intent"' in text
    assert "downstream_waiting_rows" in text
    assert "absent" not in text, "names that anybody may invent are no label values"
    labels = {"model": "intent", "protocol": "http"}
    assert sample("downstream_requests_total", outcome="ok", **labels) == 2
    assert sample("downstream_requests_total", outcome="InvalidInput", **labels) == 1
    assert sample("downstream_tokens_total", model="intent") == 3 * len(b"hello") + 3 * len(["[CLS]", "[SEP]"])


def test_metrics_tell_of_rows_that_shared_a_run_and_of_a_cache_that_does_not_pay(
    repository: Repository, metrics: Metrics, sample: Callable[..., float | None]
) -> None:
    write_bundle(repository.folder, "kept", config="response_cache { enable: true }")
    write_bundle(repository.folder, "plain")
    repository.load_all()
    client = TestClient(build_app(Management(Inference(repository, metrics, Settings()), explicit=False), metrics, 999))
    client.get("/metrics")
    assert sample("downstream_shared_rows", model="plain") == 0
    assert sample("downstream_response_cache_pays", model="plain") is None
    assert sample("downstream_response_cache_pays", model="kept") == 1


def test_openapi_document_has_the_hot_routes_beside_the_others(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert HOT_PATHS.keys() < document["paths"].keys()
    assert "/v2/health/ready" in document["paths"]
    operation = document["paths"]["/v1/models/{model}:predict"]["post"]
    assert "X-Request-Timeout-Ms" in {parameter["name"] for parameter in operation["parameters"]}


@pytest.mark.parametrize("path", [path for path in HOT_PATHS if "version" not in path])
def test_example_of_the_documentation_can_be_sent(client: TestClient, path: str) -> None:
    example = HOT_PATHS[path]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert client.post(path.replace("{model}", "intent"), json=example).status_code == 200


def test_docs_page_loads(client: TestClient) -> None:
    response = client.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/no/such/route", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models/intent/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "//v2", 404),
        ("GET", "/V2", 404),
        ("GET", "/v2/models/intent/versions/1/trace/setting", 404),
        ("POST", "/v2/models/intent/infer/", 404),
        ("POST", "/v2/models/intent/infer%0A", 404),
        ("POST", "/v2/models/intent/versions/x/infer", 404),
        ("POST", "/v2/models/intent/versions/-1/infer", 404),
        ("POST", "/v1/models/intent:predict%0A", 405),
        ("POST", "/v2/repository/models/intent/load/", 404),
        ("GET", "/v2/models/absent", 404),
        ("GET", "/v1/models/absent", 404),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2/models/intent", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/models/absent/infer", 400),
        ("POST", "/v1/models/absent:predict", 404),
    ],
)
def test_every_refusal_has_one_form(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path, follow_redirects=False)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert isinstance(response.json()["error"], str)


def test_parameter_of_the_wrong_type_is_told_in_the_same_form(client: TestClient) -> None:
    """No route has such a parameter today; the first that does must not bring a second form of error."""

    @client.app._rest.get("/typed/{number}")  # type: ignore[attr-defined]
    async def typed(number: int) -> int:
        return number

    response = client.get("/typed/seven")
    assert response.status_code == 422
    assert list(response.json()) == ["error"]
    assert "number" in response.json()["error"]
    assert "'seven'" in response.json()["error"]


def test_internal_error_of_a_management_route_is_told_by_its_id_only(
    client: TestClient, loaded: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing() -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(loaded, "index", failing)
    response = client.post("/v2/repository/index")
    assert response.status_code == 500
    text = response.json()["error"]
    assert "secret" not in text
    assert text.split("id ")[1].split(";")[0] in caplog.text
