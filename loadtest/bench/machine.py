"""The machine and the software of a run, by name: figures without them mean nothing."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from loadtest.bench.launch import version_of
from serving.settings import read_available_cores

# The instructions that decide how fast INT8 is.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
PACKAGES = ("downstream", "onnxruntime", "tokenizers", "numpy", "uvicorn", "grpcio")


def facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> Mapping[str, str]:
    """Processor, its instructions that matter, cores, system, and versions of what serves."""
    known = _cpuinfo(cpuinfo)
    flags = set((known.get("flags") or known.get("Features") or "").split())
    return {
        "processor": known.get("model name") or platform.processor() or platform.machine(),
        "instructions": ", ".join(flag for flag in FLAGS if flag in flags) or "none of " + ", ".join(FLAGS),
        "cores used": str(read_available_cores()),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version_of(name)}" for name in PACKAGES),
    }


def _cpuinfo(path: Path) -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is no such file."""
    if not path.is_file():
        return {}
    first = path.read_text("utf-8").split("\n\n")[0]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
