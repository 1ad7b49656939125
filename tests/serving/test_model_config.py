"""config.pbtxt: read as Triton reads it, refused by line, and what this gateway makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.columns import Schema
from serving.errors import BundleError, InvalidInput
from serving.model_config import FILE, check, chosen_versions, completed, declare, from_json, is_ours, read, to_json
from serving.tasks.text_classification import TextClassification
from tests.serving.bundles import ARRAYS, config_of, write_assets


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """The wire schema of the test bundles."""
    task = TextClassification.open(write_assets(tmp_path_factory.mktemp("task") / "assets"))
    return Schema.of(task, "intent", 4)


def written(folder: Path, content: bytes, name: str = "intent") -> Path:
    model = folder / name
    model.mkdir()
    (model / FILE).write_bytes(content)
    return model


def test_valid_configuration_is_read(tmp_path: Path) -> None:
    config = read(written(tmp_path, b'name: "intent" backend: "downstream" max_batch_size: 8'))
    assert (config.name, config.backend, config.max_batch_size) == ("intent", "downstream", 8)


def test_configuration_without_a_name_takes_that_of_its_directory(tmp_path: Path) -> None:
    assert read(written(tmp_path, b"max_batch_size: 3")).max_batch_size == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'name: "intent"\nmax_batch_sise: 8', "2:1 .*max_batch_sise"),
        (b"max_batch_size: many", "many"),
        (b"\xff\xfe", "not a Triton model configuration"),
        (b'name: "other"', "'other'.*'intent'"),
    ],
    ids=["unknown field", "wrong value", "not text", "another name"],
)
def test_configuration_that_is_wrong_is_told_with_its_path_and_reason(
    content: bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=rf"intent/{FILE}: .*{said}"):
        read(written(tmp_path, content))


def test_missing_configuration_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=rf"{FILE}: cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [7]),
        ("version_policy { latest { } }", [7]),
        ("version_policy { latest { num_versions: 2 } }", [3, 7]),
        ("version_policy { latest { num_versions: 9 } }", [1, 3, 7]),
        ("version_policy { all { } }", [1, 3, 7]),
        ("version_policy { specific { versions: [3, 1, 5] } }", [1, 3]),
        ("version_policy { specific { versions: [5] } }", []),
    ],
)
def test_versions_served_are_those_of_the_policy(policy: str, served: list[int]) -> None:
    assert chosen_versions(config_of(policy), [7, 1, 3]) == served


def test_no_version_directory_serves_nothing() -> None:
    assert chosen_versions(config_of(""), []) == []


def test_json_form_is_read_like_the_text_form() -> None:
    config = from_json("intent", '{"backend": "downstream", "max_batch_size": 8, "version_policy": {"all": {}}}')
    assert config == config_of('backend: "downstream" max_batch_size: 8 version_policy { all { } }')


@pytest.mark.parametrize(
    ("text", "said"),
    [("x", "JSON"), ("3", "JSON"), ('{"max_batch_sise": 8}', "max_batch_sise"), ('{"name": "other"}', "'other'")],
)
def test_json_form_that_is_wrong_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"config.*{said}"):
        from_json("intent", text)


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("", True),
        ('backend: "downstream"', True),
        ('backend: "onnxruntime"', False),
        ('platform: "ensemble"', False),
    ],
)
def test_models_of_other_backends_are_not_ours(text: str, ours: bool) -> None:
    assert is_ours(config_of(text)) == ours


def test_declared_schema_is_what_the_check_accepts(schema: Schema) -> None:
    config = config_of("max_batch_size: 4")
    declare(config, schema)
    check(config, schema)
    assert [item.name for item in config.input] == ["text", "text_pair", *ARRAYS]
    assert all(item.optional for item in config.input)
    assert [list(item.dims) for item in config.input] == [[1], [1], [-1], [-1]]
    assert [item.name for item in config.input if item.allow_ragged_batch] == list(ARRAYS)
    assert [list(item.dims) for item in config.output] == [[1], [1], [3], [3]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input { name: 'txt' data_type: TYPE_STRING dims: 1 }", "input: .*'txt'; it has text, text_pair"),
        ("input { name: 'text' data_type: TYPE_INT64 dims: 1 }", "input text: .*TYPE_INT64.*TYPE_STRING"),
        ("input { name: 'input_ids' data_type: TYPE_INT64 dims: 7 }", "input input_ids: .*7.*-1"),
        ("output { name: 'logits' data_type: TYPE_FP32 dims: 2 }", r"output logits: .*\[2\].*\[3\]"),
        ("output { name: 'lable' data_type: TYPE_STRING dims: 1 }", "'lable'; it has label, score"),
    ],
)
def test_configuration_that_declares_another_model_is_refused(text: str, said: str, schema: Schema) -> None:
    with pytest.raises(BundleError, match=said):
        check(config_of(text), schema)


def test_what_a_configuration_leaves_out_is_shown_complete(schema: Schema) -> None:
    shown = to_json(completed(config_of("max_batch_size: 4 dynamic_batching { }"), schema, "sha256:1"))
    assert shown["name"] == "intent"
    assert shown["backend"] == "downstream"
    assert shown["version_policy"] == {"latest": {"num_versions": 1}}
    assert shown["instance_group"][0]["count"] == 1
    assert shown["input"][0]["data_type"] == "TYPE_STRING"
    assert shown["parameters"] == {"model_digest": {"string_value": "sha256:1"}}
    assert shown["dynamic_batching"]["max_queue_delay_microseconds"] == 0
    for absent in ("response_cache", "model_transaction_policy", "sequence_batching", "ensemble_scheduling"):
        assert absent not in shown, "perf_analyzer takes what is there for set"


def test_json_of_every_kind_of_field_is_plain_and_as_triton_writes_it() -> None:
    config = config_of(
        "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 9000000000 preferred_batch_size: [2, 4] "
        "priority_queue_policy { key: 1 value { max_queue_size: 5 } } } "
        "parameters { key: 'a' value { string_value: 'b' } } response_cache { enable: true }"
    )
    shown = json.loads(json.dumps(to_json(config)))
    assert shown["dynamic_batching"]["max_queue_delay_microseconds"] == 9_000_000_000
    assert shown["dynamic_batching"]["preferred_batch_size"] == [2, 4]
    assert shown["dynamic_batching"]["priority_queue_policy"]["1"]["timeout_action"] == "REJECT"
    assert shown["parameters"] == {"a": {"string_value": "b"}}
    assert shown["response_cache"] == {"enable": True}
    assert from_json("intent", json.dumps(shown)) == config
