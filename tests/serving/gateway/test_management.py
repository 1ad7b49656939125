"""Loading and unloading on a client's request: who may, what a request may bring, and what it must never reach."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serving.errors import BundleError, InvalidInput, NotFound, NotReady
from serving.gateway.management import Management, override_of
from serving.gateway.v2 import Inference
from serving.repository import Repository
from tests.serving.bundles import write_bundle

CONFIG = '{"backend": "downstream", "max_batch_size": 2}'


def load(management: Management, model: str = "intent", **parameters: Any) -> None:
    asyncio.run(management.load(model, parameters))


def files_of(folder: Path) -> dict[str, bytes]:
    """The override parameters that bring a whole model directory."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]
    return {f"file:{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths}


@pytest.mark.parametrize("change", ["load", "unload"])
def test_clients_may_load_and_unload_only_where_the_server_was_started_so(inference: Inference, change: str) -> None:
    management = Management(inference, explicit=False)
    call = management.load("intent", {}) if change == "load" else management.unload("intent")
    with pytest.raises(NotReady, match=f"--model-control explicit to {change} models"):
        asyncio.run(call)
    assert inference.model_ready("intent")


def test_unloaded_model_is_gone_until_it_is_loaded_again(management: Management) -> None:
    asyncio.run(management.unload("intent"))
    assert [(entry["state"], entry["reason"]) for entry in management.index()] == [("UNAVAILABLE", "unloaded")]
    with pytest.raises(NotFound, match="'intent' has no available versions"):
        management.config("intent")
    asyncio.run(management.unload("intent"))
    load(management)
    assert [entry["state"] for entry in management.index(ready=True)] == ["READY"]


def test_configuration_of_a_request_takes_the_place_of_the_stored_one_until_the_next_load(
    management: Management,
) -> None:
    load(management, config=CONFIG)
    assert management.config("intent").max_batch_size == 2
    load(management)
    assert management.config("intent").max_batch_size == 4


def test_model_can_be_made_of_nothing_but_the_files_of_a_request(
    management: Management, repository: Repository, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "elsewhere", "guest")
    load(management, "guest", config=CONFIG, **files_of(tmp_path / "elsewhere" / "guest"))
    assert management.inference.model_ready("guest")
    assert management.config("guest").max_batch_size == 2
    assert not (repository.folder / "guest").exists()


def test_files_of_a_request_are_proved_like_any_other_and_what_served_before_goes_on(
    management: Management, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "elsewhere", "intent", wrong_golden=True)
    before = management.repository.get("intent")
    with pytest.raises(BundleError, match="golden"):
        load(management, config=CONFIG, **files_of(tmp_path / "elsewhere" / "intent"))
    assert management.repository.get("intent") is before
    assert management.inference.model_ready("intent")


@pytest.mark.parametrize("model", ["..", ".", "", "../elsewhere", "a/b", "/{tmp}/elsewhere", "a\0b"])
def test_no_name_of_a_model_writes_files_outside_of_the_temporary_folder(
    management: Management, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    parameters: Mapping[str, Any] = {"config": CONFIG, "file:evil": b"evil"}
    with pytest.raises(NotFound, match="failed to load"):
        asyncio.run(management.load(model.replace("{tmp}", str(tmp_path).strip("/")), parameters))
    assert list(tmp_path.rglob("evil")) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "files",
    [
        {"file:../evil": b""},
        {"file:1/../../evil": b""},
        {"file:/evil": b""},
        {"file:": b""},
        {"file:.": b""},
        {"file:a\0b": b""},
        {"file:" + "a" * 300: b""},
        {"file:a": b"", "file:a/b": b""},
    ],
)
def test_path_that_is_none_inside_the_model_directory_is_refused(
    management: Management, files: dict[str, bytes]
) -> None:
    with pytest.raises(InvalidInput, match="file:"):
        load(management, config=CONFIG, **files)
    assert management.inference.model_ready("intent")


def test_name_that_no_folder_can_have_is_not_found(management: Management) -> None:
    with pytest.raises(NotFound, match="failed to load 'aaa"):
        load(management, "a" * 300)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"configuration": "{}"}, "unrecognized load parameter, got 'configuration'"),
        ({"config": 7}, "'config' must be the model configuration as JSON text, got 7"),
        ({"config": None}, "'config' must be the model configuration"),
        ({"file:1/model.onnx": b""}, "without 'config'"),
        ({"config": "{}", "file:1/model.onnx": "no base64!"}, "'file:1/model.onnx' must be the file in base64"),
        ({"config": "{}", "file:1/model.onnx": 7}, "must be the file in base64, got 7"),
        ({"config": "{}", "file:1/model.onnx": "Grüße"}, "must be the file in base64"),
    ],
)
def test_parameter_that_means_nothing_is_refused(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        override_of(parameters)


def test_file_comes_as_bytes_or_as_base64_text() -> None:
    override = override_of({"config": "{}", "file:1/a": b"\x00\xff", "file:1/b": "AP8="})
    assert override.files == {"1/a": b"\x00\xff", "1/b": b"\x00\xff"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "not the JSON of a Triton model configuration"),
        ('{"max_batch": 2}', "not the JSON of a Triton model configuration"),
        ('{"name": "other"}', "name: is another model's, got 'other'"),
        (json.dumps({"input": [{"name": "ids", "data_type": "TYPE_INT64", "dims": [1]}]}), "none of this name"),
    ],
)
def test_configuration_that_does_not_fit_is_refused_and_what_served_before_goes_on(
    management: Management, config: str, said: str
) -> None:
    with pytest.raises((InvalidInput, BundleError), match=said):
        load(management, config=config)
    assert management.inference.model_ready("intent")
    assert management.config("intent").max_batch_size == 4
