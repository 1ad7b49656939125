"""config.pbtxt: read as Triton reads it, refused by line, and what this gateway makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import BundleError
from serving.model_config import FILE, chosen_versions, not_honoured, queue_capacity, read
from tests.serving.bundles import config_of


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


def test_what_is_not_honoured_is_named() -> None:
    config = config_of(
        "response_cache { enable: true } sequence_batching { } model_warmup { name: 'x' } optimization { }"
    )
    assert set(not_honoured(config)) == {"response_cache", "sequence_batching", "model_warmup", "optimization"}


def test_plain_configuration_warns_of_nothing() -> None:
    assert not_honoured(config_of("max_batch_size: 8 dynamic_batching { }")) == []


def test_queue_capacity_is_triton_s_own_setting() -> None:
    assert queue_capacity(config_of("dynamic_batching { default_queue_policy { max_queue_size: 5 } }")) == 5
    assert queue_capacity(config_of("dynamic_batching { }")) is None


def test_batching_and_instances_that_are_not_honoured_are_named() -> None:
    config = config_of(
        "instance_group { count: 2 } dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 5 }"
    )
    assert not_honoured(config) == [
        "instance_group (give --runners)",
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.max_queue_delay_microseconds",
    ]
    assert not_honoured(config_of("instance_group { count: 1 } dynamic_batching { }")) == []
