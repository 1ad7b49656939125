"""Health, metadata, configuration, statistics and the repository: the same facts in the same form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from serving.model_config import FILE
from tests.conformance.clients import Client
from tests.conformance.conftest import Server
from tests.conformance.models import files_of, write_model
from tests.serving.held_backend import PATIENCE
from tests.serving.turns import polled

STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


def test_server_and_models_are_live_and_ready(client: Client) -> None:
    assert client.call(client.raw.is_server_live)
    assert client.call(client.raw.is_server_ready)
    assert client.call(client.raw.is_model_ready, "intent")
    assert client.call(client.raw.is_model_ready, "topic", "1")
    assert not client.call(client.raw.is_model_ready, "topic", "2")
    assert not client.call(client.raw.is_model_ready, "absent")


def test_server_says_what_it_can(client: Client) -> None:
    found = client.call(client.raw.get_server_metadata)
    assert set(found["extensions"]) >= {
        "classification", "model_repository", "schedule_policy", "model_configuration", "system_shared_memory",
        "binary_tensor_data", "parameters", "statistics", "trace", "logging",
    }  # fmt: skip


def test_metadata_has_every_input_and_output(client: Client) -> None:
    found = client.call(client.raw.get_model_metadata, "topic")
    assert found["name"] == "topic"
    assert found["versions"] == ["1", "3"]
    assert found["platform"] == "downstream"
    assert [(item["name"], item["datatype"], item["shape"]) for item in found["inputs"]] == [
        ("text", "BYTES", [-1, 1]),
        ("text_pair", "BYTES", [-1, 1]),
        ("input_ids", "INT64", [-1, -1]),
        ("attention_mask", "INT64", [-1, -1]),
    ]
    assert [(item["name"], item["datatype"], item["shape"]) for item in found["outputs"]] == [
        ("label", "BYTES", [-1, 1]),
        ("score", "FP32", [-1, 1]),
        ("probabilities", "FP32", [-1, 3]),
        ("logits", "FP32", [-1, 3]),
    ]
    assert client.call(client.raw.get_model_metadata, "topic", "1")["versions"] == ["1"]


def test_configuration_is_that_of_the_file(server: Server, client: Client) -> None:
    found = client.call(client.raw.get_model_config, "intent")
    config = found.get("config", found)
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("intent", "downstream", 4)
    assert [item["name"] for item in config["input"]] == ["text", "text_pair", "input_ids", "attention_mask"]
    assert [item["dims"] for item in config["input"]] == [[1], [1], [-1], [-1]]
    assert all(item["optional"] for item in config["input"])
    assert [item["data_type"] for item in config["output"]] == ["TYPE_STRING", "TYPE_FP32", "TYPE_FP32", "TYPE_FP32"]
    assert "dynamic_batching" in config
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert [(group["kind"], group["count"]) for group in config["instance_group"]] == [("KIND_CPU", 1)]


def counts(client: Client, model: str = "spare") -> dict[str, Any]:
    """The statistics of the only version of a model."""
    (found,) = client.call(client.raw.get_inference_statistics, model)["model_stats"]
    assert (found["name"], found["version"]) == (model, "1")
    assert set(found["inference_stats"]) == set(STAGES)
    return dict(found)


def test_statistics_count_requests_rows_and_runs(client: Client) -> None:
    before = counts(client)
    client.infer({"text": ["a", "b", "c"]}, "spare")
    client.infer({"text": ["a"]}, "spare")
    after = counts(client)
    for stage in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        was, now = before["inference_stats"][stage], after["inference_stats"][stage]
        assert now["count"] - was["count"] == 2, stage
        assert now["ns"] >= was["ns"]
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert after["inference_count"] - before["inference_count"] == 4
    assert 2 <= after["execution_count"] - before["execution_count"] <= 4
    assert after["last_inference"] >= before["last_inference"]
    assert {entry["batch_size"] for entry in after["batch_stats"]} <= {1, 2, 3, 4}
    assert sum(e["compute_infer"]["count"] for e in after["batch_stats"]) == after["execution_count"]


def test_statistics_of_all_models_and_of_one_version(client: Client) -> None:
    every = client.call(client.raw.get_inference_statistics)["model_stats"]
    names = [(found["name"], found["version"]) for found in every]
    assert names == sorted(names)
    assert {("intent", "1"), ("topic", "1"), ("topic", "3")} <= set(names)
    (one,) = client.call(client.raw.get_inference_statistics, "topic", "3")["model_stats"]
    assert (one["name"], one["version"]) == ("topic", "3")


def index(client: Client) -> dict[tuple[str, str], str]:
    """The state of every version in the repository index."""
    found = client.call(client.raw.get_model_repository_index)
    entries = found if isinstance(found, list) else found.get("models", [])
    return {(entry["name"], entry.get("version", "")): entry.get("state", "") for entry in entries}


def test_index_has_every_version(client: Client) -> None:
    found = index(client)
    assert found[("intent", "1")] == found[("topic", "1")] == found[("topic", "3")] == "READY"


@contextmanager
def own_model(server: Server, client: Client, name: str) -> Iterator[str]:
    """A model of this test alone, loaded; unloaded at the end."""
    write_model(server.folder, name)
    if "before" in server.kind:
        pytest.skip("the graph of a new model would have to be loaded in the remote server first")
    client.call(client.raw.load_model, name)
    try:
        yield name
    finally:
        client.call(client.raw.unload_model, name)
        until(lambda: index(client).get((name, "1")) == "UNAVAILABLE")


def until(condition: Callable[[], object]) -> None:
    """Unloading goes on behind the answer."""
    assert polled(condition, PATIENCE)


def name_of(client: Client, what: str) -> str:
    return f"{what}_{client.library.__name__.replace('.', '_')}"


def test_model_is_loaded_and_unloaded(server: Server, client: Client) -> None:
    with own_model(server, client, name_of(client, "fresh")) as name:
        assert client.call(client.raw.is_model_ready, name)
        assert client.infer({"text": ["a"]}, name)["label"].shape == (1, 1)
    assert not client.call(client.raw.is_model_ready, name)
    found = client.refused({"text": ["a"]}, name)
    assert found.status in ("404", "NOT_FOUND")
    assert "has no available versions" in found.text
    client.call(client.raw.unload_model, name)


def test_new_configuration_is_used_until_it_is_unloaded(server: Server, client: Client) -> None:
    with own_model(server, client, name_of(client, "narrow")) as name:
        found = client.call(client.raw.get_model_config, name)
        config = {**found.get("config", found), "max_batch_size": 2}
        config.pop("dynamic_batching")
        client.call(client.raw.load_model, name, config=json.dumps(config))
        assert client.infer({"text": ["a", "b"]}, name)["label"].shape == (2, 1)
        assert "batch-size must be <= 2" in client.refused({"text": ["a", "b", "c"]}, name).text


def test_files_of_a_request_are_served_instead_of_those_of_the_repository(server: Server, client: Client) -> None:
    if "before" in server.kind:
        pytest.skip("the graph of a new model would have to be loaded in the remote server first")
    name = name_of(client, "sent")
    files = files_of(server.folder, "intent")
    config = client.call(client.raw.get_model_config, "intent")
    config = {**config.get("config", config), "name": name, "max_batch_size": 3}
    config["dynamic_batching"] = {}
    client.call(client.raw.load_model, name, config=json.dumps(config), files=files)
    assert client.infer({"text": ["a", "b", "c"]}, name)["label"].shape == (3, 1)
    client.call(client.raw.unload_model, name)


def test_version_that_fails_leaves_the_one_before_it_serving(server: Server, client: Client) -> None:
    with own_model(server, client, name_of(client, "mended")) as name:
        before = client.infer({"text": ["a"]}, name)
        graph = server.folder / name / "1" / "model.onnx"
        content = graph.read_bytes()
        graph.write_bytes(content + b" ")
        found = client.fails(client.raw.load_model, name)
        assert found.status in ("400", "INVALID_ARGUMENT")
        assert "model.onnx was changed after it was written" in found.text
        assert client.call(client.raw.is_model_ready, name)
        assert client.infer({"text": ["a"]}, name)["label"].tolist() == before["label"].tolist()
        graph.write_bytes(content)
        client.call(client.raw.load_model, name)


def test_model_that_does_not_prove_itself_never_serves(server: Server, client: Client) -> None:
    if "before" in server.kind:
        pytest.skip("the graph of a new model would have to be loaded in the remote server first")
    name = name_of(client, "wrong")
    write_model(server.folder, name, wrong_golden=True)
    found = client.fails(client.raw.load_model, name)
    assert found.status in ("400", "INVALID_ARGUMENT")
    assert "golden rows are not reproduced" in found.text
    assert not client.call(client.raw.is_model_ready, name)
    assert index(client)[(name, "1")] == "UNAVAILABLE"
    (server.folder / name / FILE).unlink()
