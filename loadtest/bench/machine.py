"""The machine and the software of a run, by name: figures without them mean nothing."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from loadtest.bench.launch import version_of
from serving import processor
from serving.settings import read_available_cores

PACKAGES = ("downstream", "onnxruntime", "tokenizers", "numpy", "uvicorn", "grpcio")


def facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> Mapping[str, str]:
    """Processor, its instructions that matter, cores, system, and versions of what serves."""
    found = processor.read(cpuinfo)
    return {
        "processor": found.name,
        "instructions": ", ".join(found.to_json()["instructions"]) or "none of " + ", ".join(processor.INSTRUCTIONS),
        "cores used": str(read_available_cores()),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version_of(name)}" for name in PACKAGES),
    }
