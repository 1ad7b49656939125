"""``config.pbtxt`` is a Triton ModelConfig that says what the task's fields say."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import triton_config
from serving import model_config
from serving.modality.text import SETTINGS
from serving.tasks.text_classification import TextClassification
from tests.serving.bundles import LABELS, write_assets


def opened(folder: Path, pair: str) -> TextClassification:
    path = write_assets(folder / pair) / SETTINGS
    text = path.read_text("utf-8")
    assert '"pair": "sometimes"' in text
    path.write_text(text.replace('"pair": "sometimes"', f'"pair": "{pair}"'), "utf-8")
    return TextClassification.open(folder / pair)


@pytest.mark.parametrize(
    ("pair", "inputs"),
    [
        ("never", [("text", False)]),
        ("sometimes", [("text", False), ("text_pair", True)]),
        ("always", [("text", False), ("text_pair", False)]),
    ],
)
def test_inputs_and_outputs_are_those_of_the_task(tmp_path: Path, pair: str, inputs: list[tuple[str, bool]]) -> None:
    task = opened(tmp_path, pair)
    config = text_format.Parse(triton_config.text("m", task, 16), pb.ModelConfig())
    assert [(field.name, field.optional) for field in config.input] == inputs
    assert {field.data_type for field in config.input} == {pb.TYPE_STRING}
    assert all(list(field.dims) == [1] for field in config.input)
    labels = len(LABELS)
    assert [(field.name, field.data_type, list(field.dims)) for field in config.output] == [
        ("label", pb.TYPE_STRING, [1]),
        ("score", pb.TYPE_FP32, [1]),
        ("probabilities", pb.TYPE_FP32, [labels]),
        ("logits", pb.TYPE_FP32, [labels]),
    ]


def test_the_rest_of_it(tmp_path: Path) -> None:
    config = text_format.Parse(triton_config.text("my-model", opened(tmp_path, "never"), 16), pb.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("my-model", "downstream", 16)
    assert config.HasField("dynamic_batching")
    assert [(group.kind, group.count) for group in config.instance_group] == [(pb.ModelInstanceGroup.KIND_CPU, 1)]
    assert config.version_policy.latest.num_versions == 1


def test_the_gateway_honours_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    triton_config.write(tmp_path / "m", triton_config.text("m", opened(tmp_path, "never"), 16))
    config = model_config.read(tmp_path / "m")
    assert model_config.not_honoured(config) == []
    assert model_config.chosen_versions(config, [1, 3, 2]) == [3]


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    triton_config.write(tmp_path, "old")
    triton_config.write(tmp_path, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"config.pbtxt": "new"}
