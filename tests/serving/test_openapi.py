"""The OpenAPI document, taken at its word: whatever fits it is answered as it says, and never by a 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from prometheus_client import CollectorRegistry

from serving.gateway.app import build_app
from serving.gateway.management import Management
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import write_bundle

EXAMPLES = 25

CHECKS = (
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of an application that serves the model ``intent``."""
    home = tmp_path_factory.mktemp("openapi")
    write_bundle(home / "models")
    chosen = Settings(runners=2, allow_shared_memory=True, trace_file=str(home / "traces.json"))
    metrics = Metrics(CollectorRegistry())
    repository = Repository(home / "models", chosen, metrics)
    repository.load_all()
    management = Management(Inference(repository, metrics, chosen), explicit=True)
    yield schemathesis.openapi.from_asgi("/openapi.json", build_app(management, metrics, 2**20))
    repository.close()


def operations(document: Any) -> list[Any]:
    """Every method of every path."""
    return [found.ok() for found in document.get_all_operations()]


def test_answers_are_those_of_the_document(document: Any, subtests: pytest.Subtests) -> None:
    for operation in operations(document):
        with subtests.test(operation.label):

            @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(operation.as_strategy())
            def holds(case: Any) -> None:
                if not case.path.endswith("/unload") and "model" in (case.path_parameters or {}):
                    # Else hardly any request would reach a model.
                    case.path_parameters["model"] = "intent"
                response = case.call()
                # A request that brings a deadline may miss it.
                brought = "X-Request-Timeout-Ms" in (case.headers or {})
                late = brought and response.status_code in (503, 504)
                case.validate_response(response, checks=CHECKS[1:] if late else CHECKS)

            holds()


def test_every_route_of_the_protocol_is_in_the_document(document: Any) -> None:
    labels = {operation.label for operation in operations(document)}
    for route in ("infer", "generate", "generate_stream"):
        assert f"POST /v2/models/{{model}}/{route}" in labels
        assert f"POST /v2/models/{{model}}/versions/{{version}}/{route}" in labels
    assert {"POST /v2/repository/models/{model}/load", "GET /v2/models/{model}/config"} <= labels
