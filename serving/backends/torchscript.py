"""Graphs of PyTorch: TorchScript (``.pt``) and torch.export (``.pt2``). Nothing else of serving imports torch.

Both formats are read by code that trusts them: serve files that you made yourself.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from serving.errors import BundleError
from serving.tensors import Array, Tensors

# Inside each file: {"inputs": [...], "outputs": [...]}, the names of what the graph takes and gives by position.
NAMES_FILE = "names.json"


@dataclass(frozen=True)
class Function:
    """A loaded graph: ``call`` takes tensors in the order of ``inputs`` and gives a tuple in that of ``outputs``."""

    call: Callable[..., Sequence[Any]]
    inputs: Sequence[str]
    outputs: Sequence[str]


class Torch:
    """Functions by graph name; each ``run`` uses the calling thread only, so N runners use N cores."""

    def __init__(self, torch: ModuleType, functions: Mapping[str, Function]) -> None:
        self._torch = torch
        self.functions = dict(functions)

    def run(self, graph: str, batch: Tensors, timeout: float | None = None) -> dict[str, Array]:
        torch, function = self._torch, self.functions[graph]
        arrays = [batch[name] for name in function.inputs]
        # A view of the array where torch takes one; of what may not be written to it does not.
        tensors = [torch.from_numpy(array if array.flags.writeable else array.copy()) for array in arrays]
        # Of each thread. TorchScript's optimizer has nothing left to do in a frozen graph, but its profiling makes the
        # first runs ten times as long, and what it keeps larger.
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            found = function.call(*tensors)
        return {name: tensor.numpy() for name, tensor in zip(function.outputs, found, strict=True)}

    def close(self) -> None:
        self.functions.clear()


def open_graphs(graphs: Mapping[str, Path]) -> Torch:
    """Load ``.pt`` and ``.pt2`` files, on the CPU. Raises BundleError when torch is missing or refuses one.

    Threads and oneDNN are settings of torch for the whole process: from now on an operator uses one thread.
    """
    try:
        import torch
    except ImportError as error:
        raise BundleError(
            f"torch, which runs {', '.join(path.name for path in graphs.values())}, cannot be imported ({error}); "
            "pip install 'downstream[torchscript]', or export the model with --to onnx"
        ) from error
    torch.set_num_threads(1)
    # It would keep a plan for every new length, and is no faster here than what runs without it.
    torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    return Torch(torch, {name: _load(torch, path) for name, path in graphs.items()})


def _load(torch: Any, path: Path) -> Function:
    read = {".pt": _torchscript, ".pt2": _pt2}.get(path.suffix)
    if read is None:
        raise BundleError(f"{path}: is neither .pt (TorchScript) nor .pt2 (torch.export); export the model again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecation is told where it can be mended: at export
            call, text = read(torch, path)
        names = json.loads(text)
        return Function(call, names["inputs"], names["outputs"])
    except Exception as error:  # torch's exceptions have no common root
        raise BundleError(
            f"{path}: torch {torch.__version__} cannot load it: {error}; export the model again, or serve it with the "
            "torch that exported it or a newer one"
        ) from error


def _torchscript(torch: Any, path: Path) -> tuple[Callable[..., Sequence[Any]], str]:
    extra = {NAMES_FILE: ""}
    return torch.jit.load(path, map_location="cpu", _extra_files=extra), extra[NAMES_FILE]


def _pt2(torch: Any, path: Path) -> tuple[Callable[..., Sequence[Any]], str]:
    extra = {NAMES_FILE: ""}
    return torch.export.load(path, extra_files=extra).module(), extra[NAMES_FILE]
