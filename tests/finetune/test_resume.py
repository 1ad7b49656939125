"""k steps, Ctrl-C, resume: to the bit the run that was never interrupted."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.__main__ import INTERRUPTED, main
from finetune.checkpoint import open_checkpoint
from finetune.dataset import load
from serving.errors import BundleError
from serving.tasks.text_classification import TextClassification
from serving.tensors import Row
from tests.finetune import toy
from tests.finetune.interruption import counted_main, interrupted_main

# 18 batches and 9 optimizer steps an epoch; the last step, 18, is no multiple of the 5 between two evaluations.
CHANGES: dict[str, Any] = {
    "training": {
        "epochs": 2, "batch_tokens": 80, "accumulate": 2, "learning_rate": 0.01, "precision": "fp32", "evaluations": 2,
    }
}  # fmt: skip


def story(folder: Path) -> tuple[bytes, Any, Any]:
    """What a run came to: the weights, the course of the training, the scores."""
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    training = {name: metrics["training"][name] for name in ("steps", "train", "validation")}
    return (folder / "model" / "model.safetensors").read_bytes(), training, metrics["validation"]


@pytest.fixture(scope="module", autouse=True)
def steady_score() -> Iterator[None]:
    """The mean probability of the right label: it grows to the last step, so the last weights are the best."""
    classify = TextClassification.score

    def score(self: TextClassification, predicted: Sequence[Row], expected: Sequence[Row]) -> dict[str, Any]:
        index = {label: position for position, label in enumerate(self.labels)}
        given = [
            float(answer["probabilities"][index[row["label"]]])
            for answer, row in zip(predicted, expected, strict=True)
            if "probabilities" in answer
        ]
        return {**classify(self, predicted, expected), "accuracy": sum(given) / max(1, len(given))}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextClassification, "score", score)
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.prepare(tmp_path_factory.mktemp("resume"), changes=CHANGES)


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path) -> tuple[bytes, Any, Any]:
    assert main([str(recipe)]) == 0
    told = story(recipe.parent / "run")
    # Else the comparisons below could be of weights from before the interruption.
    course = [entry["accuracy"] for entry in told[1]["validation"]]
    assert [entry["step"] for entry in told[1]["validation"]] == [5, 10, 15, 18]
    assert course.index(max(course)) == 3
    return told


@pytest.mark.parametrize("step", [2, 12, 18], ids=["first epoch", "second epoch", "last step"])
def test_an_interrupted_run_resumes_to_the_same_bits(
    recipe: Path, uninterrupted: tuple[bytes, Any, Any], tmp_path: Path, step: int, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(recipe), f"output={tmp_path / 'run'}"]
    assert interrupted_main(argv, step) == INTERRUPTED == 130
    assert f"interrupted at step {step}; continue with the same command and --resume" in capsys.readouterr().out
    with pytest.raises(BundleError, match="--resume"):
        open_checkpoint(tmp_path / "run")

    assert counted_main([*argv, "--resume"]) == (0, list(range(step + 1, 19)))
    weights, training, scores = story(tmp_path / "run")
    assert training == uninterrupted[1]
    assert scores == uninterrupted[2]
    assert weights == uninterrupted[0]
    open_checkpoint(tmp_path / "run")


def test_sigterm_is_as_good_as_ctrl_c_and_a_run_may_be_interrupted_again(
    recipe: Path, uninterrupted: tuple[bytes, Any, Any], tmp_path: Path
) -> None:
    argv = [str(recipe), f"output={tmp_path / 'run'}"]
    assert interrupted_main(argv, 3, signal.SIGTERM) == INTERRUPTED
    assert interrupted_main([*argv, "--resume"], 7) == INTERRUPTED
    assert counted_main([*argv, "--resume"]) == (0, list(range(8, 19)))
    assert story(tmp_path / "run") == uninterrupted


def test_what_dies_after_the_last_step_is_resumed_too(
    recipe: Path, uninterrupted: tuple[bytes, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [str(recipe), f"output={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        patch.setattr("finetune.report.write", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(argv)
    with pytest.raises(BundleError, match="--resume"):
        open_checkpoint(tmp_path / "run")
    assert main([*argv, "--resume"]) == 0
    assert story(tmp_path / "run") == uninterrupted


def test_only_the_same_recipe_is_resumed(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(recipe), f"output={tmp_path / 'run'}"]
    assert interrupted_main(argv, 1) == INTERRUPTED
    assert main(argv) == 2
    assert "an interrupted run (continue it with --resume)" in capsys.readouterr().err
    assert main([*argv, "--resume", "training.learning_rate=1e-3"]) == 2
    assert "the interrupted run had another recipe; what differs is in training" in capsys.readouterr().err


def test_the_handlers_of_signals_are_as_before(recipe: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupted_main([str(recipe), f"output={tmp_path / 'run'}"], 1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ctrl_c_before_training_ends_without_a_traceback(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> Any:
        load(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.dataset.load", interrupted)
    assert main([str(recipe), f"output={tmp_path / 'run'}"]) == INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
