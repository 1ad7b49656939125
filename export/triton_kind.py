"""What the graphs of one Triton backend are like: how they are read, fitted, configured, checked and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from export.triton_accelerator import Accelerator
from export.triton_releases import Release
from serving.tensors import Field


@dataclass(frozen=True)
class Kind:
    """One backend of Triton, named as ``config.pbtxt`` names it.

    ``runner`` is the backend of serving that runs its graphs without a server, ``engine`` what that is for people;
    ``file`` is what Triton looks for when default_model_filename is not set.

    ``load`` reads a graph. Raises ValueError that says why it is none.
    ``describe`` says in words what a graph is, ``server`` what it was checked for, ``oldest`` which servers read it.
    ``fit`` writes a graph as the release reads it; what was changed, in words. Raises ExportError.
    ``configure`` writes what runs it: inputs, and usual and largest sizes of the symbolic axes.
    ``input_faults``, ``output_faults``, ``version_faults`` and ``config_faults`` are what Triton would refuse.
    """

    backend: str
    runner: str
    engine: str
    file: str
    noun: str
    load: Callable[[Path], Any]
    describe: Callable[[Any, Release], str]
    server: Callable[[Release], str]
    oldest: Callable[[Release], str]
    fit: Callable[[Path, Path, Release], Sequence[str]]
    configure: Callable[[Accelerator, pb.ModelConfig, Sequence[Field], Mapping[str, int], Mapping[str, int]], None]
    input_faults: Callable[[pb.ModelConfig, Any], Iterable[str]]
    output_faults: Callable[[pb.ModelConfig, Any], Iterable[str]]
    version_faults: Callable[[Any, Release], Iterable[str]]
    config_faults: Callable[[pb.ModelConfig, Sequence[Any]], Iterable[str]]
