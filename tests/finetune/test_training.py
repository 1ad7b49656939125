"""The Trainer is fed the recipe's batches and scored by the task."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from finetune.__main__ import main
from finetune.batches import LengthBatches
from finetune.prediction import predict
from finetune.training import Interruption, limit_threads, resolve_precision, training_log
from serving.tasks.text_classification import TextClassification
from tests.finetune import toy


def trained(folder: Path, *overrides: str) -> dict[str, Any]:
    """The metrics of the toy recipe with overrides."""
    assert main([str(toy.prepare(folder)), *overrides]) == 0
    value: dict[str, Any] = json.loads((folder / "run" / "metrics.json").read_text("utf-8"))
    return value


def test_a_separable_task_is_learned(checkpoint: Path) -> None:
    """Two rows of its validation split are mislabelled on purpose."""
    scores = json.loads((checkpoint / "metrics.json").read_text("utf-8"))["validation"]
    assert scores["accuracy"] > 0.9
    assert scores["mcc"] > 0.8


def test_every_epoch_draws_its_own_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, drawn = LengthBatches.__iter__, {}

    def noted(self: LengthBatches) -> Iterator[list[int]]:
        drawn[self.epoch] = list(draw(self))
        return iter(drawn[self.epoch])

    monkeypatch.setattr(LengthBatches, "__iter__", noted)
    trained(tmp_path)
    assert drawn.keys() == {0, 1, 2}
    assert drawn[0] != drawn[1] != drawn[2]


def test_a_test_split_is_scored_once_beside_the_validation(tmp_path: Path) -> None:
    toy.write_jsonl(tmp_path / "test.jsonl", toy.rows(20, seed=3))
    metrics = trained(tmp_path, f"data.test={tmp_path / 'test.jsonl'}", "training.epochs=1")
    assert sum(map(sum, metrics["test"]["confusion_matrix"]["counts"])) == 20
    assert "The test split was scored once" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_patience_stops_a_run_that_gets_no_better(tmp_path: Path) -> None:
    training = trained(tmp_path, "training.epochs=50", "training.patience=2", "training.learning_rate=1e-9")["training"]
    assert len(training["validation"]) == 3
    assert training["steps"] == 24


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[torch.Tensor] = []
    score, course = TextClassification.score, [0.2, 0.9, 0.4]

    def predict_noted(model: Any, *args: Any) -> Any:
        noted.append(model.classifier.weight.detach().clone())
        return predict(model, *args)

    def score_by_turn(self: TextClassification, *args: Any) -> dict[str, Any]:
        return {**score(self, *args), "accuracy": course[len(noted) - 1]}

    monkeypatch.setattr("finetune.training.predict", predict_noted)
    monkeypatch.setattr(TextClassification, "score", score_by_turn)
    trained(tmp_path)
    assert len(noted) == 3
    saved = load_file(tmp_path / "run" / "model" / "model.safetensors")["classifier.weight"]
    assert saved.equal(noted[1])
    assert not saved.equal(noted[2])


@pytest.mark.parametrize("overrides", [["training.label_smoothing=0.1"], ["training.precision=bf16"]], ids=str)
def test_other_ways_of_training_learn_too_and_give_weights_in_single_precision(
    tmp_path: Path, overrides: list[str]
) -> None:
    assert trained(tmp_path, *overrides)["validation"]["accuracy"] > 0.9
    header = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()[:4000]
    assert b'"F32"' in header
    assert b"BF16" not in header


def test_a_precision_that_was_asked_for_is_kept() -> None:
    assert [resolve_precision(wanted) for wanted in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_only_where_the_cpu_computes_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert resolve_precision("auto") == ("bf16" if native else "fp32")


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (64, 2)])
def test_no_more_threads_than_the_process_may_use_and_none_beyond_what_was_set(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.training.read_available_cores", lambda: cores)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        limit_threads()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_run_tells_its_stages_and_the_speed_of_its_steps(checkpoint: Path) -> None:
    training = json.loads((checkpoint / "metrics.json").read_text("utf-8"))["training"]
    assert training["stages"].keys() == {"reading", "encoding", "training", "evaluating", "scoring"}
    assert training["seconds"] == pytest.approx(sum(training["stages"].values()), abs=0.1)
    speed = training["speed"]
    assert speed["steps"] == training["steps"] - 3
    assert 0 < speed["tokens"] <= speed["padded_tokens"]


def test_the_log_becomes_two_series() -> None:
    history = [
        {"loss": 0.5, "epoch": 1.0},
        {"eval_accuracy": 0.9, "epoch": 1.0, "step": 8},
        {"train_runtime": 5.0, "epoch": 1.0},
    ]
    assert training_log(history) == {
        "train": [{"loss": 0.5, "epoch": 1.0}],
        "validation": [{"accuracy": 0.9, "epoch": 1.0, "step": 8}],
    }


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    interruption = Interruption()
    with interruption.armed():
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("step", "requested"), [(3, False), (3, True), (8, False), (8, True)])
def test_the_last_step_is_scored_and_an_interrupted_one_saved(tmp_path: Path, step: int, requested: bool) -> None:
    interruption, control = Interruption(), TrainerControl()
    interruption.requested = requested
    interruption.on_step_end(TrainingArguments(str(tmp_path)), TrainerState(global_step=step, max_steps=8), control)
    assert control.should_evaluate == (step == 8)
    assert control.should_save == (step == 8 or requested)
    assert control.should_training_stop == requested


@pytest.mark.parametrize("smoothing", ["0.0", "0.1"])
def test_accumulated_batches_have_the_loss_of_one_batch_and_not_their_sum(tmp_path: Path, smoothing: str) -> None:
    """Before anything is learned, two classes cost ln 2 however many batches a step has."""
    still = ("training.learning_rate=1e-9", "training.epochs=1", f"training.label_smoothing={smoothing}")
    losses = []
    for accumulate in (1, 4):
        folder = tmp_path / str(accumulate)
        folder.mkdir()
        training = trained(folder, *still, f"training.accumulate={accumulate}")["training"]
        losses.append(sum(entry["loss"] for entry in training["train"]) / len(training["train"]))
    assert losses == pytest.approx([0.693, 0.693], rel=0.05)


def test_figures_that_are_no_numbers_are_noted_as_none() -> None:
    log = training_log([{"loss": float("nan"), "grad_norm": float("inf"), "epoch": 1.0}])
    assert log["train"] == [{"loss": None, "grad_norm": None, "epoch": 1.0}]
