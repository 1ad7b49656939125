"""What a bundle consists of, and nested names as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundles.parts import flat, in_bytes, part_of, sizes
from serving.bundle import open_bundle


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.json", "graph"),
        ("model.json.data", "graph"),
        ("assets/labels.json", "assets"),
        ("golden.jsonl", "golden"),
        ("manifest.json", "rest"),
        ("labels.txt", "rest"),
    ],
)
def test_every_file_is_in_a_part(version: Path, name: str, part: str) -> None:
    assert part_of(open_bundle(version).manifest, name) == part


def test_the_parts_are_all_there_is(version: Path) -> None:
    found = sizes(open_bundle(version).manifest, version)
    assert sum(found.values()) == sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    assert found["graph"] == (version / "model.json").stat().st_size


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (23_537_901, "23.5 MB")]
)
def test_bytes_for_people(count: int, told: str) -> None:
    assert in_bytes(count) == told


def test_nested_names_are_joined_and_lists_stay() -> None:
    nested: dict[str, Any] = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}
    assert flat(nested) == {"a.b.c": 1, "a.d": [1, 2], "e": None}
