"""The command: everything is checked before anything is written, and every fault is told at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finetune.__main__ import main, parser
from finetune.recipe_file import known_keys
from serving.bundle import digest_folder
from tests.finetune import toy


def test_faults_of_recipe_base_and_data_are_one_error_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = toy.prepare(tmp_path, changes={"model": {"scratch": {"type": "nosuch"}}, "sead": 1})
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"text": "", "label": "good"}\nnot json\n')
    toy.write_jsonl(tmp_path / "validation.jsonl", [*toy.rows(4), {"text": "a", "label": "unseen"}])
    before = digest_folder(tmp_path)
    assert main([str(recipe), "training.epochs=-1", "output"]) == 2
    told = capsys.readouterr().err
    for fragment in [
        "7 faults; nothing was trained",
        "command line: cannot read 'output'; write section.key=value",
        "command line: training.epochs: should be greater than 0, got -1",
        "sead: unknown key; did you mean seed?",
        "model.scratch.type: unknown model family 'nosuch'",
        f"{tmp_path / 'train.jsonl'}:129: text: is empty",
        f"{tmp_path / 'train.jsonl'}:130: not valid JSON",
        f"{tmp_path / 'validation.jsonl'}:5: label: 'unseen' is in validation and not in train",
    ]:
        assert fragment in told
    assert re.search(rf"{re.escape(str(recipe))}:\d+: sead", told)
    assert digest_folder(tmp_path) == before
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_replaced_only_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(toy.prepare(tmp_path)), "training.epochs=0.125"]
    assert main(argv) == 0
    first = digest_folder(tmp_path / "run")
    capsys.readouterr()
    assert main([*argv, "seed=14"]) == 2
    assert "holds a finished checkpoint; give another output=..., or --overwrite" in capsys.readouterr().err
    assert main([*argv, "--resume"]) == 2
    assert "this run is finished" in capsys.readouterr().err
    assert digest_folder(tmp_path / "run") == first
    assert main([*argv, "seed=14", "--overwrite"]) == 0
    assert digest_folder(tmp_path / "run") != first


def test_it_says_what_it_made_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(toy.prepare(tmp_path)), "training.epochs=0.125"]) == 0
    said = capsys.readouterr().out
    assert "text-classification from random weights: 128 train, 32 validation rows" in said
    assert re.search(r"validation: accuracy 0\.\d{4}  macro_f1 0\.\d{4}", said)
    assert f"downstream export {tmp_path / 'run'} --to onnx --precision int8" in said


def test_a_missing_recipe_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: cannot be read" in capsys.readouterr().err


def test_options_may_stand_between_overrides(tmp_path: Path) -> None:
    args = parser().parse_intermixed_args(["r.yaml", "a=1", "--resume", "b=2"])
    assert args.overrides == ["a=1", "b=2"]
    assert args.resume


def test_the_help_lists_every_key_of_a_recipe() -> None:
    text = parser().format_help()
    assert all(f"  {key} " in text for key in known_keys())
