"""One PyTorch checkpoint to one graph in a format of PyTorch, in a process of its own.

TorchScript (``torch.jit``) is what Triton's PyTorch backend runs; pt2 (``torch.export``) is its successor. In both, the
inputs are positional, in the order and with the names of the task's fields, and the outputs a tuple in theirs; the
names travel inside the file. Run as ``python -m export.torch_graph KIND PRECISION MODEL_FOLDER AUTO_CLASS SAMPLES.npz
OUTPUTS TARGET``.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export import child
from serving.backends.torchscript import NAMES_FILE
from serving.errors import InvalidInput, fault
from serving.tensors import Graph, Tensors

if TYPE_CHECKING:
    import torch

TORCHSCRIPT, PT2 = "torchscript", "pt2"
GRAPH_FILES = {TORCHSCRIPT: "model.pt", PT2: "model.pt2"}
FP32, INT8 = "fp32", "int8-dynamic"
# Python that torch.jit no longer supports.
FIRST_WITHOUT = (3, 14)
DEPRECATED = (
    "TorchScript is deprecated since torch 2.5 and not supported on Python 3.14 and newer; its successor is "
    "torch.export: --to pt2. Use it where a server asks for it, as Triton's PyTorch backend does"
)


def check(kind: str, *, int8: str = "") -> None:
    """Raise InvalidInput, before any work, for what the installed Python and torch cannot make.

    ``int8`` is the precision as it was asked for, where it is one of integers.
    """
    if kind == TORCHSCRIPT and sys.version_info >= FIRST_WITHOUT:
        raise InvalidInput(
            fault("--to", f"torch does not support TorchScript on Python {sys.version.split()[0]}", kind,
                  "give --to pt2, or export with Python 3.13 or older")
        )  # fmt: skip
    if int8 and kind == PT2:
        raise InvalidInput(
            fault("--precision", "torch.export does not take what torch.ao quantizes", int8,
                  f"give --precision {FP32}, or --to onnx")
        )  # fmt: skip
    if int8 and not _can_quantize():
        import torch

        raise InvalidInput(
            fault("--precision", f"torch {torch.__version__} has no torch.ao.quantization.quantize_dynamic any more",
                  int8, f"give --precision {FP32}, or --to onnx")
        )  # fmt: skip


def _can_quantize() -> bool:
    """Whether torch still has its deprecated eager quantization; torchao, its successor, makes no TorchScript."""
    try:
        from torch.ao.quantization import quantize_dynamic  # noqa: F401
    except ImportError:
        return False
    return True


def start(
    kind: str, model: Path, auto_class: str, graph: Graph, example: Tensors, target: Path, *, int8: bool = False
) -> subprocess.Popen[str]:
    """Start the exporter; ``example`` is one encoded row, ``kind`` is torchscript or pt2."""
    samples = child.write_samples(target, graph, example)
    outputs = ",".join(field.name for field in graph.outputs)
    precision = INT8 if int8 else FP32
    return child.start("export.torch_graph", kind, precision, model, auto_class, samples, outputs, target)


def finish(process: subprocess.Popen[str], target: Path) -> None:
    """Wait for the exporter. Raises ExportError with its own last words."""
    child.finish(process, target)


def main(argv: Sequence[str]) -> int:
    """The child process: load, quantize if asked to, trace, save with the names inside the file."""
    import torch
    import transformers

    kind, precision, folder, auto_class, samples, outputs, target = argv
    # Eager attention: the fused kind looks at the mask of the example, and bakes in what it saw.
    model = getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with np.load(samples) as arrays:
        inputs = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    wrapped = named(model.eval(), list(inputs), outputs.split(",")).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is deprecated the user was told, once
        if precision == INT8:
            quantize: Any = torch.ao.quantization.quantize_dynamic
            wrapped = quantize(wrapped, {torch.nn.Linear}, dtype=torch.qint8)
        names = {NAMES_FILE: json.dumps({"inputs": list(inputs), "outputs": outputs.split(",")})}
        write = {TORCHSCRIPT: _write_torchscript, PT2: _write_pt2}[kind]
        write(wrapped, inputs, Path(target), names)
    return 0


def named(model: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> torch.nn.Module:
    """The model as a function of arrays: ``forward`` has these arguments and gives a tuple of these outputs."""
    import torch

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.model(**dict(zip(inputs, arrays, strict=True)))
            return tuple(result[name] for name in outputs)

    # Tracing takes the names of a graph's inputs from here; Triton addresses them by these.
    arguments = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *inputs)]
    Named.forward.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
    return Named()


def _write_torchscript(
    model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], target: Path, names: dict[str, str]
) -> None:
    import torch

    trace: Any = torch.jit.trace  # deprecated, and so without types
    # What is traced is checked later, over shapes that were not.
    traced = trace(model, tuple(inputs.values()), strict=False, check_trace=False)
    torch.jit.save(torch.jit.freeze(traced.eval()), target, _extra_files=names)


def _write_pt2(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], target: Path, names: dict[str, str]) -> None:
    import torch

    batch, length = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, tuple(inputs.values()), dynamic_shapes=tuple({0: batch, 1: length} for _ in inputs), strict=False
    )
    _assert_symbolic(program, inputs)
    torch.export.save(program, target, extra_files=names)


def _assert_symbolic(program: Any, inputs: Mapping[str, torch.Tensor]) -> None:
    """Raise ExportError where a size of the example was baked in."""
    given = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.name in inputs}
    baked = [
        f"{name} axis {axis} is fixed to {size}"
        for name in inputs
        for axis, size in enumerate(given[name])
        if isinstance(size, int)
    ]
    if baked:
        raise child.ExportError(f"axes that must be dynamic were baked in: {'; '.join(baked)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
