"""The fastest graph that is right is kept; a lead within the noise is none; what was wrong is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export import route_choice
from export.child import ExportError
from export.route_choice import Route, choose, duel, fastest
from export.sweep import Answered
from tests.export.test_axes import GRAPH, written

ROWS = [{"input_ids": np.arange(1, n), "attention_mask": np.ones(n - 1, np.int64)} for n in (3, 9, 5)]


class Clock:
    """Time that passes only while a graph runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A graph that takes so many seconds for each token."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.lengths = clock, seconds, list[int]()

    def run(self, graph: str, batch: Any, timeout: float | None = None) -> dict[str, Any]:
        self.lengths.append(batch["input_ids"].shape[1])
        self.clock.now += self.seconds * self.lengths[-1]
        return {}

    def close(self) -> None:
        pass


def answered(wrong: float = 0.0) -> list[Answered]:
    """What the graph of ``written`` gives, as PyTorch's answer."""
    batch = {"input_ids": np.array([[3, 4], [5, 6]]), "attention_mask": np.array([[1, 1], [1, 0]])}
    return [Answered(2, 2, batch, {"logits": np.array([[7, 7], [5, 5]], np.float32) + wrong})]


def made(folder: Path, name: str = "native") -> Path:
    return written(folder / f"{name}.onnx", ["batch", "length"], ["batch", "length"], ["batch", 2])


def test_a_duel_gives_times_of_one_row_and_the_speed_of_the_first_to_the_second() -> None:
    clock = Clock()
    one, other = Slow(clock, 0.001), Slow(clock, 0.002)
    batches = [{"input_ids": np.zeros((1, length))} for length in (10, 20, 30)]
    ms, other_ms, ratio = duel(one, other, "model", batches, clock)
    assert (ms, other_ms, ratio) == pytest.approx((20, 40, 2))
    assert sorted(set(one.lengths)) == [10, 20, 30]
    assert len(one.lengths) == len(other.lengths)


def test_the_machine_slowing_down_in_a_duel_favours_neither() -> None:
    clock = Clock()

    class Tiring(Slow):
        def run(self, graph: str, batch: Any, timeout: float | None = None) -> dict[str, Any]:
            self.seconds *= 1.01
            return super().run(graph, batch)

    batches = [{"input_ids": np.zeros((1, 10))} for _ in range(4)]
    _, _, ratio = duel(Tiring(clock, 0.01), Tiring(clock, 0.01), "model", batches, clock)
    assert ratio == pytest.approx(1)


@pytest.mark.parametrize(
    ("ratios", "kept"),
    [((1.0, 1.3, 1.1), "b"), ((1.0, 1.01, 1.015), "a"), ((1.0, 0.8), "a"), ((1.0, 1.1, 1.11), "b")],
)
def test_the_fastest_is_kept_unless_its_lead_is_noise(ratios: tuple[float, ...], kept: str) -> None:
    routes = [Route(name, Path(), ratio=ratio) for name, ratio in zip("abc", ratios, strict=False)]
    assert fastest(routes).name == kept


def test_a_fused_graph_may_be_served_but_is_never_quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"native": 1.0, "traced": 1.1, "optimized": 1.5}
    monkeypatch.setattr(
        route_choice, "race", lambda routes, *rest: [Route(r.name, r.path, ratio=speeds[r.name]) for r in routes]
    )
    choice = choose({name: made(tmp_path, name) for name in speeds}, answered(), ROWS, "model", GRAPH)
    assert choice.to_serve.name == "optimized"
    assert choice.to_quantize is not None
    assert choice.to_quantize.name == "traced"


def test_a_route_that_failed_or_is_wrong_does_not_stop_the_one_that_is_right(tmp_path: Path) -> None:
    right = made(tmp_path)
    wrong = tmp_path / "wrong.onnx"
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "length"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length"])
    node = helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", [ids, mask], [logits]), opset_imports=opset, ir_version=8),
        wrong,
    )
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    made_by = {"traced": "cannot trace this", "native": wrong, "optimized": broken, "native-fused": right}
    clock = iter(np.arange(0, 1e6, 1.0).tolist())
    choice = choose(made_by, answered(), ROWS, "model", GRAPH, lambda: next(clock))
    failed = {route.name: route.reason for route in choice.routes if not route.passed}
    assert failed["traced"] == "cannot trace this"
    assert "differs from PyTorch" in failed["native"]
    assert "cannot load" in failed["optimized"]
    assert choice.to_serve.path == right
    assert choice.to_serve.p50_ms == 1000
    assert choice.to_quantize is None
    summary = {entry["route"]: entry for entry in (route.summary() for route in choice.routes)}
    assert summary["traced"] == {"route": "traced", "reason": "cannot trace this"}
    assert summary["native-fused"]["operators"] == {
        "attention": 0, "gelu": 0, "layer_norm": 0, "integer": 0, "floating": 0,
    }  # fmt: skip


def test_where_no_route_is_right_each_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"native: .*differs from PyTorch.*; traced: cannot"):
        choose({"native": made(tmp_path), "traced": "cannot"}, answered(wrong=1), ROWS, "model", GRAPH)
