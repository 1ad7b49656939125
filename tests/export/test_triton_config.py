"""``config.pbtxt`` is a Triton ModelConfig that says what the task's fields say."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import triton_config
from serving import model_config
from serving.columns import Schema
from serving.modality.text import SETTINGS
from serving.model_policy import policy
from serving.settings import Settings
from serving.tasks.text_classification import TextClassification
from tests.serving.bundles import ARRAYS, LABELS, write_assets


def opened(folder: Path, pair: str) -> TextClassification:
    path = write_assets(folder / pair) / SETTINGS
    text = path.read_text("utf-8")
    assert '"pair": "sometimes"' in text
    path.write_text(text.replace('"pair": "sometimes"', f'"pair": "{pair}"'), "utf-8")
    return TextClassification.open(folder / pair)


@pytest.mark.parametrize(
    ("pair", "columns"), [("never", ["text"]), ("sometimes", ["text", "text_pair"]), ("always", ["text", "text_pair"])]
)
def test_inputs_and_outputs_are_those_of_the_task_and_its_graph(tmp_path: Path, pair: str, columns: list[str]) -> None:
    task = opened(tmp_path, pair)
    config = text_format.Parse(triton_config.text("m", task, 16, 3), pb.ModelConfig())
    assert [(field.name, field.data_type, list(field.dims)) for field in config.input] == [
        *((name, pb.TYPE_STRING, [1]) for name in columns),
        *((name, pb.TYPE_INT64, [-1]) for name in ARRAYS),
    ]
    assert all(field.optional for field in config.input), "a row comes as columns or as arrays"
    labels = len(LABELS)
    assert [(field.name, field.data_type, list(field.dims), field.label_filename) for field in config.output] == [
        ("label", pb.TYPE_STRING, [1], ""),
        ("score", pb.TYPE_FP32, [1], ""),
        ("probabilities", pb.TYPE_FP32, [labels], "3/labels.txt"),
        ("logits", pb.TYPE_FP32, [labels], "3/labels.txt"),
    ]


def test_class_names_stand_where_the_configuration_says_in_their_order(tmp_path: Path) -> None:
    task = opened(tmp_path, "never")
    triton_config.write_names(tmp_path, task)
    assert (tmp_path / "labels.txt").read_text("utf-8").splitlines() == list(LABELS)


def test_the_rest_of_it(tmp_path: Path) -> None:
    config = text_format.Parse(triton_config.text("my-model", opened(tmp_path, "never"), 16, 1), pb.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("my-model", "downstream", 16)
    assert config.HasField("dynamic_batching")
    assert [(group.kind, group.count) for group in config.instance_group] == [(pb.ModelInstanceGroup.KIND_CPU, 1)]
    assert config.version_policy.latest.num_versions == 1


def test_the_gateway_honours_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    task = opened(tmp_path, "never")
    triton_config.write(tmp_path / "m", triton_config.text("m", task, 16, 1))
    config = model_config.read(tmp_path / "m")
    assert policy(config, Settings()).ignored == ()
    model_config.check(config, Schema.of(task, "m", 16))
    assert model_config.chosen_versions(config, [1, 3, 2]) == [3]


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    triton_config.write(tmp_path, "old")
    triton_config.write(tmp_path, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"config.pbtxt": "new"}
