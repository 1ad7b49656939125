"""The bench, end to end on a tiny base model, and what it says when it cannot run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from finetune.bench import job
from finetune.bench.__main__ import main
from finetune.bench.figures import GOALS, PRODUCT
from finetune.faults import RecipeError
from tests.finetune import toy


@pytest.fixture(scope="module")
def recipe(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy recipe on a pretrained base: the toy checkpoint, as a folder that transformers opens too."""
    folder = tmp_path_factory.mktemp("bench")
    base = folder / "base"
    AutoModelForSequenceClassification.from_pretrained(checkpoint / "model").save_pretrained(base)
    tokenizer = str(checkpoint / "assets" / "tokenizer.json")
    PreTrainedTokenizerFast(tokenizer_file=tokenizer, pad_token="[PAD]").save_pretrained(base)
    path = toy.prepare(folder, changes={"model": {"base": str(base)}})
    values = yaml.safe_load(path.read_text("utf-8"))
    values.pop("tokenizer")
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


def test_every_contender_trains_the_same_work_and_is_told(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--rounds", "1", "--steps", "5", "--rows", "8", "--threads", "1"]
    page = tmp_path / "table.md"
    assert main([str(recipe), *words, "--output", str(tmp_path), "--markdown", str(page)]) == 0
    runs: dict[str, list[dict[str, Any]]] = json.loads((tmp_path / "train.json").read_text("utf-8"))["runs"]
    assert runs.keys() == {PRODUCT, *GOALS}
    for (run,) in runs.values():
        assert run["steps"] == 2
        assert 0 < run["tokens"] <= run["padded_tokens"]
        assert run["peak"] > 50
        assert run["wall"] > sum(run["stages"].values()) > 0
    assert runs["run_classification"][0]["padded_tokens"] == 2 * 8 * 32
    said = capsys.readouterr().out
    for contender in runs:
        assert f"| {contender} |" in page.read_text("utf-8")
        assert contender in said


def test_the_work_is_the_rows_of_the_recipe_in_one_epoch(recipe: Path, tmp_path: Path) -> None:
    work = job.read(job.write(recipe, ["max_length=16"], steps=4, rows=8, folder=tmp_path))
    given = {json.dumps(row) for row in toy.rows(128, seed=1)}
    assert len(work.rows) == 32
    assert {json.dumps(row) for row in work.rows} <= given
    assert work.labels == sorted([toy.GOOD, toy.BAD])
    assert (work.recipe.max_length, work.recipe.training.batch_rows, work.recipe.training.epochs) == (16, 8, 1.0)
    assert work.recipe.training.learning_rate == 0.005


def test_pairs_are_kept_together(recipe: Path, tmp_path: Path) -> None:
    toy.write_jsonl(tmp_path / "pairs.jsonl", toy.rows(40, pairs=True))
    files = [f"data.train={tmp_path / 'pairs.jsonl'}", f"data.validation={tmp_path / 'pairs.jsonl'}"]
    first, second = job.read(job.write(recipe, files, steps=2, rows=8, folder=tmp_path)).texts()
    assert second is not None
    known = {(row["text"], row["text_pair"]) for row in toy.rows(40, pairs=True)}
    assert set(zip(first, second, strict=True)) <= known


def test_too_few_rows_are_told_with_the_remedy(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"128 training rows.*40 steps of 8 rows need 320; give fewer with --steps"):
        job.write(recipe, [], steps=40, rows=8, folder=tmp_path)


def test_a_recipe_without_a_pretrained_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(toy.prepare(tmp_path)), "--output", str(tmp_path)]) == 2
    assert "model.base" in capsys.readouterr().err


def test_a_contender_that_fails_is_told_with_its_last_words(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model.base=" + str(tmp_path), "--steps", "2", "--rows", "8", "--output", str(tmp_path)]
    assert main([str(recipe), *words]) == 1
    said = capsys.readouterr().err
    assert "finetune" in said
    assert "has no tokenizer.json" in said
