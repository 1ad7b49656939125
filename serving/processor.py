"""The processor of this machine: its name and its instruction sets, as far as the system tells them."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

X86 = ("x86_64", "amd64")
# Those that decide how fast, and on x86 how exactly, 8-bit weights are multiplied.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
# A graph with 8-bit weights whose products, added in pairs in 16 bits, overflow on x86 without any kind of VNNI.
# Source: ONNX Runtime, "Quantize ONNX models", on reduce_range.
VNNI = "vnni"
KINDS = {VNNI: frozenset({"avx512_vnni", "avx_vnni"})}
LACKED = {VNNI: "8-bit weights would overflow on this CPU (no VNNI)"}


@dataclass(frozen=True)
class Processor:
    """``name`` as the system spells it, ``machine`` as ``platform.machine`` has it, ``features`` as Linux flags."""

    name: str
    machine: str
    features: frozenset[str]

    def has(self, need: str) -> bool:
        """Whether graphs with this need compute here what they should: a Linux flag, or ``vnni`` for any kind of it."""
        if need == VNNI and self.machine not in X86:
            return True  # the others add in 32 bits
        return bool(KINDS.get(need, {need}) & self.features)

    def lacking(self, needs: Iterable[str]) -> list[str]:
        """Those needs that it does not meet."""
        return [need for need in needs if not self.has(need)]

    def to_json(self) -> dict[str, Any]:
        """What a manifest or a report keeps of it."""
        found = [name for name in INSTRUCTIONS if name in self.features]
        return {"processor": self.name, "machine": self.machine, "instructions": found}


def lacked(need: str) -> str:
    """What it means that a processor lacks this, in words."""
    return LACKED.get(need, f"the graph needs {need}, which this CPU has not")


def read(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = "") -> Processor:
    """The processor that this runs on. Without ``cpuinfo``, as on other systems than Linux, no features are known."""
    machine = (machine or platform.machine()).lower()
    found = _first(cpuinfo)
    flags = found.get("flags") or found.get("Features") or ""
    name = found.get("model name") or platform.processor() or machine
    return Processor(name, machine, frozenset(flags.split()))


def _first(cpuinfo: Path) -> dict[str, str]:
    """The first processor of /proc/cpuinfo; the kernel takes long to tell of all where there are many."""
    found: dict[str, str] = {}
    try:
        with cpuinfo.open(encoding="utf-8") as lines:
            for line in lines:
                name, colon, value = line.partition(":")
                if not colon:
                    break
                found[name.strip()] = value.strip()
    except OSError:
        pass
    return found
