"""The first hand-off: complete, self-contained and proved by digests, or refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

from finetune.checkpoint import open_checkpoint, prepare_folder
from finetune.faults import RecipeError
from finetune.recipe import Recipe
from serving.bundle import digest_folder
from serving.errors import BundleError
from tests.finetune import toy
from tests.finetune.conftest import AWKWARD


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_it_holds_what_the_design_says_and_nothing_of_the_trainer(checkpoint: Path) -> None:
    assert {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()} == {
        "assets/labels.json",
        "assets/text.json",
        "assets/tokenizer.json",
        "calibration.jsonl",
        "checkpoint.json",
        "data.json",
        "metrics.json",
        "model/config.json",
        "model/model.safetensors",
        "recipe.yaml",
        "report.html",
        "validation.jsonl",
    }


def test_the_manifest_says_what_it_was_made_of(checkpoint: Path) -> None:
    manifest = open_checkpoint(checkpoint).manifest
    assert manifest["task"] == "text-classification"
    assert manifest["base_model"] == "scratch"
    assert manifest["seed"] == 13
    assert re.fullmatch("[0-9a-f]{64}", manifest["data_digest"])
    assert {"torch", "transformers", "tokenizers"} <= manifest["versions"].keys()
    files = digest_folder(checkpoint)
    del files["checkpoint.json"]
    assert manifest["files"] == files


def test_the_weights_are_finite_safetensors_in_single_precision(checkpoint: Path) -> None:
    with safe_open(checkpoint / "model" / "model.safetensors", "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
    assert len(tensors) > 10
    assert {str(tensor.dtype) for tensor in tensors} == {"torch.float32"}
    assert all(tensor.isfinite().all() for tensor in tensors)


def test_the_labels_stand_in_the_configuration_of_the_model(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "model" / "config.json").read_text("utf-8"))
    assert config["id2label"] == {"0": toy.BAD, "1": toy.GOOD}
    assert json.loads((checkpoint / "assets" / "labels.json").read_text("utf-8")) == [toy.BAD, toy.GOOD]


def test_the_recipe_is_there_with_every_default(checkpoint: Path) -> None:
    values = yaml.safe_load((checkpoint / "recipe.yaml").read_text("utf-8"))
    assert values["training"]["weight_decay"] == 0.01
    assert Recipe.model_validate(values).output == str(checkpoint)


def test_the_validation_rows_come_back_as_they_were(checkpoint: Path) -> None:
    """Also those with the line separators that str.splitlines would cut at."""
    assert open_checkpoint(checkpoint).validation()[-len(AWKWARD) :] == AWKWARD


def test_the_calibration_rows_are_training_rows_and_none_of_validation(checkpoint: Path) -> None:
    opened = open_checkpoint(checkpoint)
    train = [json.loads(line) for line in (checkpoint.parent / "train.jsonl").read_text("utf-8").splitlines()]
    assert opened.calibration()
    assert all(row in train for row in opened.calibration())
    assert not any(row in opened.calibration() for row in opened.validation() if row not in train)


def test_a_checkpoint_older_than_calibration_has_no_such_rows(copied: Path) -> None:
    manifest = json.loads((copied / "checkpoint.json").read_text("utf-8"))
    del manifest["files"]["calibration.jsonl"]
    (copied / "checkpoint.json").write_text(json.dumps(manifest))
    # A file that nothing proves is not read.
    assert open_checkpoint(copied).calibration() == []


@pytest.mark.parametrize(
    "name", ["model/model.safetensors", "assets/tokenizer.json", "assets/labels.json", "metrics.json", "recipe.yaml"]
)
def test_a_changed_or_missing_file_is_named(copied: Path, name: str) -> None:
    with (copied / name).open("r+b") as file:
        content = bytearray(file.read())
        content[len(content) // 2] ^= 1
        file.seek(0)
        file.write(content)
    with pytest.raises(BundleError, match=f"{name} was changed"):
        open_checkpoint(copied)
    (copied / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        open_checkpoint(copied)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": 5}'])
def test_a_damaged_manifest_is_told(copied: Path, content: str) -> None:
    (copied / "checkpoint.json").write_text(content)
    with pytest.raises(BundleError, match=r"checkpoint\.json: cannot be read"):
        open_checkpoint(copied)


def test_files_added_later_do_no_harm(copied: Path) -> None:
    (copied / "notes.txt").write_text("good one")
    assert open_checkpoint(copied).task == "text-classification"


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a finished checkpoint$"):
        open_checkpoint(tmp_path)
    (tmp_path / "trainer").mkdir()
    with pytest.raises(BundleError, match="continue it with --resume"):
        open_checkpoint(tmp_path)


def prepared(
    folder: Path, *, resume: bool = False, overwrite: bool = False, seed: int = 13, data: str = "digest"
) -> Path:
    recipe = Recipe.model_validate({**toy.recipe(Path("x")), "output": str(folder), "seed": seed})
    return prepare_folder(recipe, data, resume=resume, overwrite=overwrite)


@pytest.mark.parametrize("name", ["checkpoint.json", "trainer"])
def test_what_a_run_left_is_replaced_only_on_demand(tmp_path: Path, name: str) -> None:
    folder = prepared(tmp_path / "run")
    (folder / "trainer").mkdir() if name == "trainer" else (folder / name).write_text("{}")
    (folder / "metrics.json").write_text("")
    (folder / "mine").write_text("what the user put there stays")
    with pytest.raises(RecipeError, match="--overwrite to replace it"):
        prepared(folder)
    assert (folder / "metrics.json").exists()
    prepared(folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {"recipe.yaml", "data.json", "mine"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    """As when somebody writes output=runs for output=runs/NAME."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint.json").write_text("{}")
    before = digest_folder(tmp_path)
    with pytest.raises(RecipeError, match="no training run"):
        prepared(tmp_path, overwrite=overwrite)
    assert digest_folder(tmp_path) == before


def test_an_output_that_cannot_be_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for output in ("file", "file/run"):
        with pytest.raises(RecipeError, match="output="):
            prepared(tmp_path / output)
    assert (tmp_path / "file").read_text() == "mine"


def test_only_an_interrupted_run_of_the_same_recipe_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no interrupted run to resume"):
        prepared(tmp_path / "run", resume=True)
    folder = prepared(tmp_path / "run")
    (folder / "trainer").mkdir()
    assert prepared(folder, resume=True) == folder
    with pytest.raises(RecipeError, match=r"another recipe; what differs is in seed\."):
        prepared(folder, resume=True, seed=14)
    (folder / "checkpoint.json").write_text("{}")
    with pytest.raises(RecipeError, match="finished, there is nothing to resume"):
        prepared(folder, resume=True)


def test_a_run_is_not_resumed_with_other_rows(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "run")
    (folder / "trainer").mkdir()
    assert prepared(folder, resume=True) == folder
    with pytest.raises(RecipeError, match="rows of the data have changed"):
        prepared(folder, resume=True, data="another digest")


def test_a_folder_with_the_users_own_recipe_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("# mine")
    for overwrite in (False, True):
        with pytest.raises(RecipeError, match="no training run"):
            prepared(tmp_path, overwrite=overwrite)
    assert (tmp_path / "recipe.yaml").read_text() == "# mine"


def test_a_checkpoint_without_digests_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "run"))
    manifest = json.loads((folder / "checkpoint.json").read_text("utf-8"))
    (folder / "checkpoint.json").write_text(json.dumps({**manifest, "files": {}}))
    with pytest.raises(BundleError, match=r"no digest of assets/labels\.json"):
        open_checkpoint(folder)
