"""Trace, log and shared memory: what clients of Triton set is set here too, and does the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm

from tests.conformance.clients import Client
from tests.conformance.conftest import Server
from tests.serving.held_backend import PATIENCE
from tests.serving.turns import polled

LOG_DEFAULTS = {"log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0}


def traces_of(found: Any) -> dict[str, Any]:
    """Trace settings as HTTP has them: gRPC wraps every value into a list."""
    if "settings" not in found:
        return dict(found)
    values = {name: setting["value"] for name, setting in found["settings"].items()}
    return {name: value if name == "trace_level" else value[0] for name, value in values.items()}


def test_trace_settings_are_read_changed_and_put_back(client: Client) -> None:
    raw = client.raw
    assert traces_of(client.call(raw.get_trace_settings))["trace_level"] == ["OFF"]
    changed = traces_of(client.call(raw.update_trace_settings, settings={"trace_rate": "7", "log_frequency": "2"}))
    assert (str(changed["trace_rate"]), str(changed["log_frequency"])) == ("7", "2")
    own = traces_of(client.call(raw.update_trace_settings, "topic", {"trace_rate": "5"}))
    assert str(own["trace_rate"]) == "5"
    assert str(traces_of(client.call(raw.get_trace_settings, "intent"))["trace_rate"]) == "7"
    assert str(traces_of(client.call(raw.get_trace_settings, "topic"))["trace_rate"]) == "5"
    assert str(traces_of(client.call(raw.update_trace_settings, "topic", {"trace_rate": None}))["trace_rate"]) == "7"
    back = traces_of(client.call(raw.update_trace_settings, settings={"trace_rate": None, "log_frequency": None}))
    assert (str(back["trace_rate"]), str(back["log_frequency"])) == ("1000", "0")


def test_traced_request_is_in_the_file_with_its_stages(server: Server, client: Client) -> None:
    on = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "log_frequency": "1"}
    client.call(client.raw.update_trace_settings, settings=on)
    identifier = uuid.uuid4().hex
    try:
        client.infer({"text": ["a"]}, request_id=identifier)
        # A server may finish writing after it has answered.
        assert polled(lambda: _traced(server, identifier), PATIENCE)
    finally:
        off = {"trace_level": ["OFF"], "trace_rate": None, "log_frequency": None}
        client.call(client.raw.update_trace_settings, settings=off)
    stages = _traced(server, identifier)
    order = [
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
    ]
    times = [stages[name] for name in order]
    assert times == sorted(times)


def _traced(server: Server, identifier: str) -> dict[str, int]:
    """The timestamps of the request with this id, by name; empty while it is not whole in any file."""
    for path in server.traces.parent.glob(f"{server.traces.name}*"):
        try:
            events = json.loads(path.read_text("utf-8"))
        except ValueError:
            continue
        numbers = [event["id"] for event in events if event.get("request_id") == identifier]
        if numbers:
            stamps = [t for e in events if e["id"] == numbers[0] for t in e.get("timestamps", [])]
            found = {stamp["name"]: stamp["ns"] for stamp in stamps}
            return found if "REQUEST_END" in found else {}
    return {}


def logs_of(found: Any) -> dict[str, Any]:
    """Log settings as HTTP has them: gRPC names the type of every value."""
    if "settings" not in found:
        return dict(found)
    return {name: next(iter(value.values())) for name, value in found["settings"].items()}


def test_log_settings_are_read_changed_and_put_back(client: Client) -> None:
    before = logs_of(client.call(client.raw.get_log_settings))
    assert {name: before[name] for name in LOG_DEFAULTS} == LOG_DEFAULTS
    changes = {"log_info": False, "log_verbose_level": 1, "log_format": "ISO8601"}
    changed = logs_of(client.call(client.raw.update_log_settings, changes))
    assert {name: changed[name] for name in changes} == changes
    assert changed["log_warning"] is True
    back = logs_of(client.call(client.raw.update_log_settings, {**LOG_DEFAULTS, "log_format": "default"}))
    assert back == before


@contextmanager
def region(client: Client, size: int) -> Iterator[tuple[str, Any]]:
    """A shared memory region, registered; its name and its handle."""
    name = f"r{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region(name, f"/{name}", size)
    try:
        client.call(client.raw.register_system_shared_memory, name, f"/{name}", size)
        yield name, handle
        client.call(client.raw.unregister_system_shared_memory, name)
    finally:
        shm.destroy_shared_memory_region(handle)


def status(client: Client, name: str = "") -> list[dict[str, Any]]:
    """The registered regions, as HTTP lists them."""
    found = client.call(client.raw.get_system_shared_memory_status, name)
    return found if isinstance(found, list) else list(found["regions"].values())


def test_tensors_go_and_come_through_shared_memory(client: Client) -> None:
    serialized = b"\x05\x00\x00\x00hello"
    with region(client, 64) as (source, handle), region(client, 4096) as (target, results):
        shm.set_shared_memory_region(handle, [np.frombuffer(serialized, np.uint8)])
        (found,) = status(client, source)
        assert (found["name"], found["key"], found["byte_size"]) == (source, f"/{source}", 64)
        item = client.library.InferInput("text", [1, 1], "BYTES")
        item.set_shared_memory(source, len(serialized))
        logits = client.library.InferRequestedOutput("logits")
        logits.set_shared_memory(target, 12, 64)
        result = client.run(client.raw.infer("intent", [item], outputs=[logits]))
        plainly = client.infer({"text": ["hello"]})["logits"]
        left = shm.get_contents_as_numpy(results, np.float32, [1, 3], 64)
        np.testing.assert_allclose(left, plainly, rtol=1e-6)
        assert result.get_output("logits") is not None
    assert source not in [found["name"] for found in status(client)]


@pytest.mark.parametrize(("size", "offset"), [(65, 0), (9, 60), (2**40, 0)])
def test_place_outside_a_region_is_refused(client: Client, size: int, offset: int) -> None:
    with region(client, 64) as (name, _):
        item = client.library.InferInput("text", [1, 1], "BYTES")
        item.set_shared_memory(name, size, offset)
        found = client.fails(client.raw.infer, "intent", [item])
    assert found.status in ("400", "INVALID_ARGUMENT")
    assert name in found.text


def test_unknown_region_is_not_found(client: Client) -> None:
    item = client.library.InferInput("text", [1, 1], "BYTES")
    item.set_shared_memory("absent", 9)
    found = client.fails(client.raw.infer, "intent", [item])
    assert found.status in ("404", "NOT_FOUND")
    assert "absent" in found.text


def test_region_is_registered_once(client: Client) -> None:
    with region(client, 64) as (name, _):
        again = client.fails(client.raw.register_system_shared_memory, name, f"/{name}", 64)
    assert again.status in ("400", "ALREADY_EXISTS")
    assert "already in manager" in again.text


def test_no_cuda_memory_here_is_told_without_an_error(client: Client) -> None:
    found = client.call(client.raw.get_cuda_shared_memory_status)
    assert found in ([], {"regions": {}}, {})
    client.call(client.raw.unregister_cuda_shared_memory)
    client.call(client.raw.unregister_system_shared_memory, "never registered")


def test_cuda_memory_cannot_be_registered_on_a_cpu(server: Server, client: Client) -> None:
    found = client.fails(client.raw.register_cuda_shared_memory, "c", b"eA==", 0, 64)
    ours = ("501", "UNIMPLEMENTED")
    assert found.status in (("400", "INVALID_ARGUMENT") if server.is_triton else ours)
