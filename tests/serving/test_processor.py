"""What a processor is said to do: by its flags, and never more than is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.processor import VNNI, lacked, read

OTHER = "\n\nprocessor\t: 1\nmodel name\t: Slow One\nflags\t\t: fpu amx_int8\n"


def cpuinfo(folder: Path, text: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("machine", "text", "expected"),
    [
        ("x86_64", "flags\t: fma avx2", False),
        ("x86_64", "flags\t: avx2 avx512_vnni", True),
        ("AMD64", "flags\t: avx2 avx_vnni", True),
        ("x86_64", "flags\t: avx2 vnni_of_another_kind", False),
        ("x86_64", "", False),
        ("aarch64", "Features\t: fp asimd", True),
        ("aarch64", "", True),
    ],
)
def test_pairs_of_8_bit_products_overflow_on_x86_without_vnni(
    machine: str, text: str, expected: bool, tmp_path: Path
) -> None:
    found = read(cpuinfo(tmp_path, text), machine)
    assert found.has(VNNI) == expected
    assert found.lacking([VNNI]) == ([] if expected else [VNNI])
    assert (VNNI in found.lacking([VNNI, "sve2"]), "sve2" in found.lacking([VNNI, "sve2"])) == (not expected, True)


def test_other_needs_are_flags_of_the_system(tmp_path: Path) -> None:
    found = read(cpuinfo(tmp_path, "flags\t: avx2 amx_int8"), "x86_64")
    assert found.lacking(["amx_int8", "avx512f", "avx2"]) == ["avx512f"]
    assert "avx512f" in lacked("avx512f")
    assert "no VNNI" in lacked(VNNI)


def test_first_processor_is_named_and_the_others_are_not_read(tmp_path: Path) -> None:
    text = "processor\t: 0\nmodel name\t: Fast One: 3 GHz\nflags\t\t: fpu avx2 avx512_vnni" + OTHER
    found = read(cpuinfo(tmp_path, text), "X86_64")
    assert found.to_json() == {
        "processor": "Fast One: 3 GHz", "machine": "x86_64", "instructions": ["avx2", "avx512_vnni"]
    }  # fmt: skip


def test_system_that_tells_nothing_still_has_a_name(tmp_path: Path) -> None:
    found = read(tmp_path / "absent", "x86_64")
    assert found.name
    assert not found.features
