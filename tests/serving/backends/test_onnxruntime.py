"""What runs graphs: the GPU first where ONNX Runtime was built for one, and one thread for each run."""

from __future__ import annotations

import pytest

from serving.backends import onnxruntime


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (["AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (
            ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ),
    ],
)
def test_cuda_comes_first_where_it_is_there(
    available: list[str], chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "available", lambda: available)
    assert onnxruntime.providers() == chosen


def test_a_run_uses_the_thread_that_calls_it_and_keeps_no_plan_for_each_length() -> None:
    options = onnxruntime.session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert not options.enable_mem_pattern
