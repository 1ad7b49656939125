"""System shared memory: what may be registered, the bounds of a region, and clients that take it away meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from serving.errors import AlreadyExists, InvalidInput, NotFound, Unsupported
from serving.gateway.app import build_app
from serving.gateway.management import Management
from serving.gateway.messages import Placement
from serving.gateway.shared_memory import Regions
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings

SIZE = 64
TEXT = b"\x05\x00\x00\x00hello"


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    """A region ``r``: bytes 8 to 40 of a file of 64 bytes that counts up."""
    (tmp_path / "shared").write_bytes(bytes(range(SIZE)))
    regions = Regions(allowed=True, largest=SIZE, root=tmp_path)
    regions.register("r", "/shared", 8, 32)
    yield regions
    regions.unregister()


def test_clients_register_nothing_unless_the_server_lets_them(tmp_path: Path) -> None:
    (tmp_path / "shared").write_bytes(bytes(SIZE))
    regions = Regions(allowed=False, largest=SIZE, root=tmp_path)
    with pytest.raises(Unsupported, match="--allow-shared-memory"):
        regions.register("r", "/shared", 0, SIZE)
    assert regions.status() == []
    regions.unregister()


def test_status_tells_all_regions_or_one(regions: Regions) -> None:
    regions.register("other", "shared", 0, 1)
    one = {"name": "r", "key": "/shared", "offset": 8, "byte_size": 32}
    assert regions.status("r") == [one]
    assert regions.status() == [one, {"name": "other", "key": "shared", "offset": 0, "byte_size": 1}]
    with pytest.raises(NotFound, match="'absent'"):
        regions.status("absent")


def test_name_is_taken_until_it_is_unregistered(regions: Regions) -> None:
    with pytest.raises(AlreadyExists, match="'r' already in manager"):
        regions.register("r", "/shared", 0, 1)
    regions.unregister("r")
    regions.unregister("r")
    regions.register("r", "/shared", 0, 1)
    regions.unregister()
    assert regions.status() == []


def test_descriptors_of_regions_are_closed_and_refused_ones_leave_none(tmp_path: Path, regions: Regions) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for key, size in (("/shared", 2 * SIZE), ("/absent", 1)):
        with pytest.raises(InvalidInput):
            regions.register("more", key, 0, size)
    regions.register("more", "/shared", 0, SIZE)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    regions.unregister("more")
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("key", "offset", "size", "said"),
    [
        ("/shared", 0, SIZE + 1, "has 64 bytes, offset and size ask for 65"),
        ("/shared", SIZE, 1, "ask for 65"),
        ("/shared", 2**63, 2**63, "has 64 bytes"),
        ("/shared", -1, 8, "an offset and a size"),
        ("/shared", 0, 0, "a size of at least 1"),
        ("/absent", 0, 8, "Unable to open shared memory region: '/absent'"),
        ("/folder", 0, 8, "Unable to open"),
        ("/link", 0, 8, "Unable to open"),
        ("/../secret", 0, 8, "needs a key as"),
        ("..", 0, 8, "needs a key as"),
        ("/", 0, 8, "needs a key as"),
        ("", 0, 8, "needs a key as"),
        ("a/b", 0, 8, "needs a key as"),
        ("a\0b", 0, 8, "needs a key as"),
        ("ü" * 255, 0, 8, "Unable to open"),
        ("a" * 300, 0, 8, "needs a key as"),
    ],
)
def test_what_is_no_shared_memory_of_that_size_cannot_be_registered(
    regions: Regions, tmp_path: Path, key: str, offset: int, size: int, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path.parent / "secret").write_bytes(bytes(SIZE))
    (tmp_path / "link").symlink_to(tmp_path.parent / "secret")
    with pytest.raises(InvalidInput, match=said):
        regions.register("bad", key, offset, size)
    assert [region["name"] for region in regions.status()] == ["r"]


def test_input_and_output_are_where_the_place_says_within_the_region(regions: Regions, tmp_path: Path) -> None:
    assert regions.read(Placement("r", 4, 2)) == bytes(range(10, 14))
    assert regions.read(Placement("r", 32)) == bytes(range(8, 40))
    regions.write(Placement("r", 8, 24), b"abcd")
    assert (tmp_path / "shared").read_bytes() == bytes(range(32)) + b"abcd" + bytes(range(36, SIZE))


@pytest.mark.parametrize("place", [Placement("r", 33), Placement("r", 1, 32), Placement("r", 0, 33)])
def test_place_outside_of_its_region_is_refused_though_the_file_is_larger(regions: Regions, place: Placement) -> None:
    for use in (regions.check, regions.read, lambda place: regions.write(place, b"")):
        with pytest.raises(InvalidInput, match="'r'.* is more than its 32 bytes"):
            use(place)


def test_place_in_an_unknown_region_is_not_found(regions: Regions) -> None:
    with pytest.raises(NotFound, match="'absent'"):
        regions.read(Placement("absent", 1))


def test_output_larger_than_its_place_is_refused_and_nothing_is_written(regions: Regions, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="output has 5 bytes, shared_memory_byte_size is 4"):
        regions.write(Placement("r", 4), b"abcde")
    assert (tmp_path / "shared").read_bytes() == bytes(range(SIZE))


def test_input_over_the_limit_of_a_body_is_refused_however_large_the_region_is(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    regions = Regions(allowed=True, largest=SIZE, root=tmp_path)
    regions.register("sparse", "sparse", 0, 2**40)
    with pytest.raises(InvalidInput, match="has 1099511627776 bytes, the limit is 64"):
        regions.read(Placement("sparse", 2**40))
    regions.write(Placement("sparse", 2**40), b"a small output in a large place")
    regions.unregister()


def test_region_that_was_made_smaller_is_told_and_does_not_end_the_server(regions: Regions, tmp_path: Path) -> None:
    os.truncate(tmp_path / "shared", 16)
    assert regions.read(Placement("r", 8)) == bytes(range(8, 16))
    for use in (regions.read, lambda place: regions.write(place, bytes(9))):
        with pytest.raises(InvalidInput, match="made smaller"):
            use(Placement("r", 9))
    assert (tmp_path / "shared").stat().st_size == 16


def test_region_whose_file_was_removed_serves_on(regions: Regions, tmp_path: Path) -> None:
    (tmp_path / "shared").unlink()
    assert regions.read(Placement("r", 1)) == b"\x08"


@pytest.mark.parametrize("room", [0, None])
def test_memory_that_is_full_is_told(regions: Regions, monkeypatch: pytest.MonkeyPatch, room: int | None) -> None:
    def full(*_: object) -> int:
        if room is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return room

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InvalidInput, match="'r' (cannot be written: No space left|has no room for 4 bytes)"):
        regions.write(Placement("r", 4), b"abcd")


@pytest.fixture
def shared() -> Iterator[SharedMemory]:
    """A real object in /dev/shm that begins with a text in raw form."""
    memory = SharedMemory(create=True, size=4096)
    memory.buf[: len(TEXT)] = TEXT
    yield memory
    memory.close()
    memory.unlink()


def test_text_in_and_scores_out_through_real_shared_memory(loaded: Repository, shared: SharedMemory) -> None:
    metrics = Metrics(CollectorRegistry())
    inference = Inference(loaded, metrics, Settings(allow_shared_memory=True))
    client = TestClient(build_app(Management(inference, explicit=False), metrics, 2**20))

    def call(path: str, body: Any = None) -> Any:
        response = client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json() if response.content else None

    url = "/v2/systemsharedmemory"
    call(f"{url}/region/r/register", {"key": shared.name, "byte_size": 4096})
    place = {"shared_memory_region": "r", "shared_memory_byte_size": len(TEXT)}
    text = {"name": "text", "datatype": "BYTES", "shape": [1, 1]}
    there = {"shared_memory_region": "r", "shared_memory_byte_size": 64, "shared_memory_offset": 1024}
    (output,) = call(
        "/v2/models/intent/infer",
        {"inputs": [{**text, "parameters": place}], "outputs": [{"name": "logits", "parameters": there}]},
    )["outputs"]
    assert output == {"name": "logits", "datatype": "FP32", "shape": [1, 3]}
    plain = call("/v2/models/intent/infer", {"inputs": [{**text, "data": ["hello"]}], "outputs": [{"name": "logits"}]})
    expected = np.array(plain["outputs"][0]["data"], np.float32)
    np.testing.assert_array_equal(np.frombuffer(shared.buf, np.float32, 3, 1024), expected)
    call(f"{url}/region/r/unregister")
    assert client.get(f"{url}/status").json() == []
