"""The hot HTTP routes: rows for people, limits of a body and of time, and callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.cost import CostModel
from serving.gateway.app import build_app
from serving.gateway.management import Management
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import LABELS, write_bundle
from tests.serving.clock import Clock
from tests.serving.held_backend import PATIENCE, HeldBackend
from tests.serving.turns import until

PREDICT = "/v1/models/intent:predict"
INFER = "/v2/models/intent/infer"
ROW = {"text": "I want my money back"}
TENSORS = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [ROW["text"]]}]}


def predict(client: TestClient, rows: Any, **headers: str) -> Any:
    return client.post(PREDICT, json={"instances": rows}, headers=headers)


@pytest.fixture
def slow(loaded: Repository) -> Repository:
    """The model is thought to need ten seconds a run."""
    loaded.get("intent").cost = CostModel(base=10.0, token=0.0, square=0.0)
    return loaded


def test_prediction_names_every_class(client: TestClient) -> None:
    response = predict(client, [ROW])
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    (prediction,) = response.json()["predictions"]
    assert set(prediction["probabilities"]) == set(prediction["logits"]) == set(LABELS)
    assert prediction["score"] == max(prediction["probabilities"].values())
    assert prediction["probabilities"][prediction["label"]] == prediction["score"]
    assert sum(prediction["probabilities"].values()) == pytest.approx(1)


def test_rows_are_answered_in_their_order_beyond_the_batch_size(client: TestClient) -> None:
    rows = [{"text": "x" * length} for length in range(1, 12)]
    together = predict(client, rows).json()["predictions"]
    assert together == [predict(client, [row]).json()["predictions"][0] for row in rows]


def test_one_bad_row_says_so_in_its_place_and_the_others_are_answered(client: TestClient) -> None:
    response = predict(client, [ROW, {"text": ""}, {"txt": "a"}, ROW])
    assert response.status_code == 200
    first, empty, unknown, last = response.json()["predictions"]
    assert first == last
    assert first["label"] in LABELS
    assert list(empty) == ["error"]
    assert "text: is empty" in empty["error"]
    assert "txt" in unknown["error"]


def test_request_whose_every_row_is_bad_is_refused(client: TestClient) -> None:
    response = predict(client, [{"text": ""}, {}])
    assert response.status_code == 400
    assert "text" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "JSON"),
        (b"", "JSON"),
        (b'{"instances": [{"text": "\xff"}]}', "JSON"),
        (b'{"instances": [{"text": "\\ud800"}]}', "JSON"),
        (b"[1]", "JSON object, got list"),
        (b"{}", "instances: must be a list of rows"),
        (b'{"instances": []}', "instances: must be a list of rows"),
        (b'{"instances": {"text": "a"}}', "instances: must be a list of rows"),
        (b'{"instances": ["a"]}', "instances: must be a list of rows"),
        (b'{"instances": [{"text": "a"}], "instance": 1}', "instance: unknown key"),
    ],
)
def test_body_that_is_no_list_of_rows_is_refused_with_what_to_send(client: TestClient, body: bytes, said: str) -> None:
    response = client.post(PREDICT, content=body)
    assert response.status_code == 400
    assert said in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/models/absent:predict", "'absent'"),
        ("/v1/models/intent/versions/7:predict", "version 7"),
        ("/v1/models/%2e%2e:predict", "'..'"),
        ("/v2/models/absent/infer", "'absent'"),
        ("/v2/models/intent/versions/7/infer", "version 7"),
        (f"/v2/models/intent/versions/{'9' * 5000}/infer", "version 999"),
    ],
)
def test_unknown_model_or_version_is_not_found_by_name(client: TestClient, path: str, said: str) -> None:
    response = client.post(path, json={"instances": [ROW], **TENSORS} if "infer" in path else {"instances": [ROW]})
    assert response.status_code == 404
    assert said in response.json()["error"]


def test_version_may_be_named(client: TestClient) -> None:
    answer = client.post("/v1/models/intent/versions/1:predict", json={"instances": [ROW]})
    assert answer.json() == predict(client, [ROW]).json()


def test_prediction_tells_the_digest_of_its_version_if_asked(client: TestClient, loaded: Repository) -> None:
    digest = loaded.get("intent").bundle.manifest.digest
    assert client.post(PREDICT, json={"instances": [ROW], "model_digest": True}).json()["model_digest"] == digest
    assert client.get("/v1/models/intent").json()["digest"] == digest
    for body in ({"instances": [ROW]}, {"instances": [ROW], "model_digest": False}):
        assert set(client.post(PREDICT, json=body).json()) == {"predictions"}
    refused = client.post(PREDICT, json={"instances": [ROW], "model_digest": "yes"})
    assert (refused.status_code, "must be true or false, got 'yes'" in refused.json()["error"]) == (400, True)


def test_hot_routes_take_only_post(client: TestClient) -> None:
    for path in (PREDICT, INFER):
        response = client.get(path)
        assert response.status_code in (404, 405)
        assert response.json()["error"]


def chunks(size: int) -> Iterator[bytes]:
    yield b'{"instances": [{"text": "'
    for _ in range(size // 1024):
        yield b"a" * 1024
    yield b'"}]}'


def test_body_over_the_limit_is_refused(client: TestClient) -> None:
    response = client.post(PREDICT, content=b"a" * (2**20 + 1))
    assert response.status_code == 413
    assert str(2**20) in response.json()["error"]


def test_length_that_no_number_of_this_machine_holds_is_over_the_limit(client: TestClient) -> None:
    response = client.post(PREDICT, content=b"{}", headers={"content-length": "9" * 5000})
    assert response.status_code == 413
    assert len(response.json()["error"]) < 300


def test_body_of_unknown_length_over_the_limit_is_refused_while_it_comes(client: TestClient) -> None:
    response = client.post(PREDICT, content=chunks(2**21))
    assert response.status_code == 413
    assert str(2**20) in response.json()["error"]


def test_body_in_chunks_within_the_limit_is_answered(client: TestClient) -> None:
    assert client.post(PREDICT, content=chunks(2**14)).status_code == 200


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "", "9" * 5000])
def test_timeout_header_that_is_no_number_of_milliseconds_is_refused(client: TestClient, value: str) -> None:
    response = predict(client, [ROW], **{"X-Request-Timeout-Ms": value})
    assert response.status_code == 400
    assert "X-Request-Timeout-Ms" in response.json()["error"]


def test_request_that_cannot_make_its_deadline_is_refused_at_once(client: TestClient, slow: Repository) -> None:
    assert predict(client, [ROW], **{"X-Request-Timeout-Ms": "10001"}).status_code == 200
    response = predict(client, [ROW], **{"X-Request-Timeout-Ms": "9999"})
    assert response.status_code == 503
    assert "deadline" in response.json()["error"]
    assert int(response.headers["retry-after"]) >= 1


def test_timeout_parameter_is_microseconds_of_waiting(client: TestClient, slow: Repository, held: HeldBackend) -> None:
    engine = slow.get("intent")
    running = [engine.submit(ROW) for _ in range(2)]  # one for each runner
    for _ in running:
        held.wait_until_running()
    waiting = [engine.submit(ROW) for _ in range(2)]  # ten seconds for each runner
    refused = client.post(INFER, json={**TENSORS, "parameters": {"timeout": 9_999_000}})
    assert refused.status_code == 503
    held.released.set()
    for future in [*running, *waiting]:
        future.result(PATIENCE)
    assert client.post(INFER, json={**TENSORS, "parameters": {"timeout": 9_999_000}}).status_code == 200


def test_server_has_a_deadline_for_requests_that_bring_none(
    loaded: Repository, slow: Repository, metrics: Metrics
) -> None:
    inference = Inference(loaded, metrics, Settings(timeout=9.0))
    client = TestClient(build_app(Management(inference, explicit=False), metrics, 2**20))
    assert predict(client, [ROW]).status_code == 503


def test_row_whose_deadline_passes_in_the_queue_gets_504(
    client: TestClient, loaded: Repository, held: HeldBackend
) -> None:
    engine = loaded.get("intent")
    engine._clock = engine._scheduler._clock = clock = Clock()
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(predict, client, [ROW]) for _ in range(2)]  # one for each runner
        for _ in running:
            held.wait_until_running()
        late = pool.submit(predict, client, [ROW], **{"X-Request-Timeout-Ms": "5000"})
        while not engine.waiting:
            assert not late.done()
        clock.advance(6)
        held.released.set()
        assert [call.result(PATIENCE).status_code for call in running] == [200, 200]
        response = late.result(PATIENCE)
    assert response.status_code == 504
    assert "expired" in response.json()["error"]


def test_full_queue_gets_503_with_a_time_to_come_back(
    client: TestClient, loaded: Repository, held: HeldBackend
) -> None:
    write_bundle(loaded.folder, "small", config="dynamic_batching { default_queue_policy { max_queue_size: 1 } }")
    loaded.load("small")
    engine = loaded.get("small")
    engine.model.backend = held
    running = [engine.submit(ROW)]  # one for each runner
    held.wait_until_running()
    running.append(engine.submit(ROW))
    held.wait_until_running()
    running.append(engine.submit(ROW))  # waits
    response = client.post("/v1/models/small:predict", json={"instances": [ROW]})
    assert response.status_code == 503
    assert "1 rows" in response.json()["error"]
    assert int(response.headers["retry-after"]) >= 1
    held.released.set()
    for future in running:
        future.result(PATIENCE)
    assert client.post("/v1/models/small:predict", json={"instances": [ROW]}).status_code == 200


def test_internal_error_hides_its_details_and_logs_them_under_an_id(
    client: TestClient, held: HeldBackend, caplog: pytest.LogCaptureFixture
) -> None:
    held.failure = RuntimeError("secret path /root/key")
    held.released.set()
    for path, body in ((PREDICT, {"instances": [ROW]}), (INFER, TENSORS)):
        response = client.post(path, json=body)
        assert response.status_code == 500
        text = response.json()["error"]
        assert "secret" not in text
        assert text.split("id ")[1].split(";")[0] in caplog.text
    assert "secret path /root/key" in caplog.text


def test_internal_error_of_one_row_is_told_by_its_id_beside_the_answers(
    client: TestClient, loaded: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = loaded.get("intent").task
    encode = task.encode

    def failing(row: Any) -> Any:
        if row["text"] == "boom":
            raise RuntimeError("secret")
        return encode(row)

    monkeypatch.setattr(task, "encode", failing)
    first, second = predict(client, [{"text": "boom"}, ROW]).json()["predictions"]
    assert first["error"].startswith("internal error, id")
    assert second["label"] in LABELS


async def asgi_call(client: TestClient, *incoming: dict[str, Any]) -> list[Any]:
    """What the application sends for a POST of these messages and then no more: the client has left."""
    sent: list[Any] = []
    messages = iter(incoming)

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    await client.app({"type": "http", "method": "POST", "path": PREDICT, "headers": []}, receive, send)  # type: ignore[operator]
    return sent


def test_caller_that_leaves_in_the_middle_of_its_body_is_forgotten(client: TestClient) -> None:
    part = {"type": "http.request", "body": b'{"inst', "more_body": True}
    assert asyncio.run(asgi_call(client, part)) == []


def test_row_of_a_caller_that_leaves_is_not_run(client: TestClient, loaded: Repository, held: HeldBackend) -> None:
    engine = loaded.get("intent")
    running = [engine.submit(ROW) for _ in range(2)]  # one for each runner
    for _ in running:
        held.wait_until_running()
    whole = {"type": "http.request", "body": orjson.dumps({"instances": [ROW]})}

    async def leave() -> None:
        call = asyncio.create_task(asgi_call(client, whole))
        await until(lambda: call.done() or engine._scheduler._waiting)
        waiting = list(engine._scheduler._waiting)
        assert await call == []
        await until(lambda: all(entry.future.cancelled() for entry in waiting))

    asyncio.run(leave())
    held.released.set()
    for future in running:
        future.result(PATIENCE)
    engine.close()
    assert held.batches == [1, 1]


words = st.sampled_from(
    ["inputs", "outputs", "parameters", "name", "datatype", "shape", "data", "id", "timeout", "text", "BYTES", "INT64"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
inputs = st.fixed_dictionaries(
    {"name": words, "datatype": words, "shape": st.lists(st.integers(-1, 3), max_size=3), "data": values},
    optional={"parameters": values, "binary_data_size": values},
)
messages = st.dictionaries(words, values) | st.fixed_dictionaries(
    {"inputs": st.lists(inputs, max_size=2)}, optional={"outputs": values, "parameters": values, "id": values}
)


def test_whatever_the_json_it_is_answered_or_refused_but_never_an_internal_error(client: TestClient) -> None:
    @settings(deadline=None)
    @given(messages, st.none() | st.binary(max_size=3))
    def holds(message: Any, binary: bytes | None) -> None:
        head = orjson.dumps(message)
        headers = {} if binary is None else {"Inference-Header-Content-Length": str(len(head))}
        for path in (INFER, PREDICT):
            response = client.post(path, content=head + (binary or b""), headers=headers)
            assert response.status_code in (200, 400), response.text
            if response.status_code == 400:
                assert response.json()["error"]

    holds()


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, b'{"instances": %b}'),
        (PREDICT, b'{"instances": [{"text": %b}]}'),
        (PREDICT, b'{"instances": [{"text": "a"}], "more": %b}'),
        (INFER, b'{"inputs": {"a": %b}}'),
        (INFER, b'{"inputs": [], "id": %b}'),
        (INFER, b'{"inputs": [], "parameters": %b}'),
        (INFER, b'{"inputs": [], "parameters": {"priority": %b}}'),
        (INFER, b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": %b, "data": ["a"]}]}'),
        (INFER, b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": %b}]}'),
        (INFER, b'{"inputs": [], "outputs": [{"name": "label", "parameters": {"classification": %b}}]}'),
        ("/v2/models/intent/generate", b'{"text": %b}'),
        ("/v2/models/intent/generate", b'{"text": "a", "parameters": {"priority": %b}}'),
        ("/v2/trace/setting", b'{"trace_rate": %b}'),
        ("/v2/logging", b'{"log_info": %b}'),
        ("/v2/repository/index", b'{"ready": %b}'),
        ("/v2/repository/models/intent/load", b'{"parameters": {"config": %b}}'),
        ("/v2/systemsharedmemory/region/x/register", b'{"key": %b}'),
    ],
)
def test_value_that_is_nested_very_deep_is_refused_and_is_no_internal_error(
    client: TestClient, path: str, body: bytes
) -> None:
    response = client.post(path, content=body % DEEP)
    assert response.status_code == 400, response.text
    assert len(response.json()["error"]) < 500


def test_other_methods_on_the_hot_routes_are_told_which_is_right(client: TestClient) -> None:
    for path in (PREDICT, INFER):
        response = client.get(path)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert response.json() == {"error": "Method Not Allowed"}


def test_more_rows_than_one_request_may_have_are_refused_before_any_is_encoded(client: TestClient) -> None:
    response = predict(client, [{"text": ""}] * 1025)
    assert response.status_code == 400
    assert "too many rows, got 1025; send at most 1024" in response.json()["error"]


def test_every_request_is_counted_by_its_outcome(client: TestClient, sample: Any) -> None:
    predict(client, [ROW])
    client.post(INFER, content=b"no json")
    client.post("/v2/models/absent/infer", json=TENSORS)
    assert sample("downstream_requests_total", model="intent", protocol="http", outcome="ok") == 1
    assert sample("downstream_requests_total", model="intent", protocol="http", outcome="InvalidInput") == 1
    assert sample("downstream_requests_total", model="unknown", protocol="http", outcome="NotFound") == 1
