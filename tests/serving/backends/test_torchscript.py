"""What only the backend of torch does: names inside the file, one thread, no memory for new lengths, clear refusals."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from serving.backends import open_backend
from serving.errors import BundleError
from tests.serving.bundles import write_graph

ROOT = Path(__file__).parents[3]


def test_the_extra_is_named_where_torch_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_graph(tmp_path / "model.pt", "torchscript")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BundleError, match=r"torch, which runs model.pt, .*pip install 'downstream\[torchscript\]'"):
        open_backend("torchscript", {"model": path})


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model.onnx: is neither .pt \(TorchScript\) nor .pt2"):
        open_backend("torchscript", {"model": tmp_path / "model.onnx"})


def test_a_graph_without_names_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.ones(2)), tmp_path / "model.pt")
    with pytest.raises(BundleError, match="model.pt: torch 2.* cannot load it: .*export the model again"):
        open_backend("torchscript", {"model": tmp_path / "model.pt"})


def test_a_run_uses_the_thread_that_calls_it_and_no_other(tmp_path: Path) -> None:
    """In a process of its own, since both settings are of the process."""
    path = write_graph(tmp_path / "model.pt", "torchscript")
    script = f"""
import threading, numpy as np, torch
from pathlib import Path
from serving.backends import open_backend
backend = open_backend("torchscript", {{"model": Path({str(path)!r})}})
batch = dict.fromkeys(("input_ids", "attention_mask"), np.ones((2, 3), np.int64))
seen = []
def run():
    backend.run("model", batch)
    seen.append((torch.get_num_threads(), torch.backends.mkldnn.enabled, torch.is_grad_enabled()))
thread = threading.Thread(target=run)
thread.start(); thread.join()
print(seen)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[(1, False, True)]"
    assert "Warning" not in ran.stderr
