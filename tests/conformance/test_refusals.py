"""Every server refuses the same things, with the same class of error; the few exceptions have their reason in
docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from serving.tensors import Array
from tests.conformance.clients import Client
from tests.conformance.conftest import Server

IDS: Array = np.array([[1, 40, 41, 2]], np.int64)
MASK: Array = np.ones_like(IDS)
INVALID, MISSING, AWAY = ("400", "INVALID_ARGUMENT"), ("404", "NOT_FOUND"), ("503", "UNAVAILABLE")


@dataclass(frozen=True)
class Case:
    """A request, what every server calls it, and what the text must name; ``triton`` is where NVIDIA's differs."""

    columns: Mapping[str, Any]
    status: tuple[str, str] = INVALID
    said: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    triton: tuple[str, str] | None = None


CASES = {
    "unknown input": Case({"txt": ["a"]}, said=("txt", "intent")),
    "missing input": Case({"text_pair": ["a"]}, said=("text", "intent")),
    "text and arrays": Case({"text": ["a"], "input_ids": IDS, "attention_mask": MASK}, said=("text", "input_ids")),
    "some arrays": Case({"input_ids": IDS}, said=("attention_mask",)),
    "wrong datatype": Case({"text": np.array([[1]], np.int64)}, said=("text", "INT64", "BYTES")),
    "wrong shape": Case({"text": np.array([["a", "b"]], object)}, said=("text", "[-1", "[1")),
    "wrong rank": Case({"text": np.array([[["a"]]], object)}, said=("text",)),
    "different counts": Case({"text": ["a", "b"], "text_pair": ["c"]}, said=("batch size",)),
    "batch over the maximum": Case({"text": list("abcde")}, said=("batch-size must be <= 4", "intent")),
    "unknown output": Case({"text": ["a"]}, said=("lable",), options={"outputs": ["lable"]}),
    "empty text": Case({"text": [""]}, said=("text", "empty")),
    "empty text in a batch": Case({"text": ["a", "b", " "]}, said=("row 2", "text")),
    "not UTF-8": Case({"text": [b"caf\xe9"]}, said=("text", "UTF-8")),
    "ids out of the vocabulary": Case({"input_ids": IDS + 10_000, "attention_mask": MASK}, said=("input_ids",)),
    "negative ids": Case({"input_ids": -IDS, "attention_mask": MASK}, said=("input_ids",)),
    "too many tokens": Case(
        {"input_ids": np.ones((1, 65), np.int64), "attention_mask": np.ones((1, 65), np.int64)}, said=("65", "64")
    ),
    "arrays of unlike length": Case({"input_ids": IDS, "attention_mask": MASK[:, :2]}, said=("length",)),
    "unknown model": Case({"text": ["a"]}, MISSING, ("absent",), {"model": "absent"}),
    "unknown version": Case({"text": ["a"]}, MISSING, ("intent", "7"), {"model_version": "7"}),
}


@pytest.mark.parametrize("name", CASES)
def test_fault_has_the_same_class_everywhere_and_names_the_thing(server: Server, client: Client, name: str) -> None:
    case = CASES[name]
    options = dict(case.options or {})
    model = options.pop("model", "intent")
    if "outputs" in options:
        options["outputs"] = client.outputs(options["outputs"])
    found = client.refused(case.columns, model, **options)
    status = case.triton if case.triton and server.is_triton else case.status
    assert found.status == status[0 if client.is_http else 1], found.text
    for part in case.said:
        assert part in found.text


Ask = Callable[[Client], Any]
MANAGEMENT: dict[str, tuple[Ask, tuple[str, str], tuple[str, str]]] = {
    # what is asked, what the gateway says, what Triton says
    "metadata of an unknown model": (lambda c: c.fails(c.raw.get_model_metadata, "absent"), MISSING, MISSING),
    "metadata of an unknown version": (lambda c: c.fails(c.raw.get_model_metadata, "intent", "9"), MISSING, MISSING),
    "config of an unknown model": (lambda c: c.fails(c.raw.get_model_config, "absent"), MISSING, MISSING),
    "statistics of an unknown model": (lambda c: c.fails(c.raw.get_inference_statistics, "absent"), MISSING, INVALID),
    "traces of an unknown model": (lambda c: c.fails(c.raw.get_trace_settings, "absent"), MISSING, INVALID),
    "load of an unknown model": (lambda c: c.fails(c.raw.load_model, "absent"), MISSING, ("500", "INTERNAL")),
    "status of an unknown region": (
        lambda c: c.fails(c.raw.get_system_shared_memory_status, "absent"), MISSING, MISSING,
    ),
    "region without its memory": (
        lambda c: c.fails(c.raw.register_system_shared_memory, "r", "/absent_region", 64), INVALID, ("500", "INTERNAL"),
    ),
    "trace rate that is no number": (
        lambda c: c.fails(c.raw.update_trace_settings, settings={"trace_rate": "x"}), INVALID, INVALID,
    ),
    "another trace file": (
        lambda c: c.fails(c.raw.update_trace_settings, settings={"trace_file": "/tmp/x"}),
        ("501", "UNIMPLEMENTED"), ("501", "UNIMPLEMENTED"),
    ),
    "another log file": (
        lambda c: c.fails(c.raw.update_log_settings, {"log_file": "/tmp/x"}),
        ("501", "UNIMPLEMENTED"), ("501", "UNIMPLEMENTED"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MANAGEMENT)
def test_management_refuses_alike(server: Server, client: Client, name: str) -> None:
    ask, ours, theirs = MANAGEMENT[name]
    found = ask(client)
    assert found.status == (theirs if server.is_triton else ours)[0 if client.is_http else 1], found.text
    assert found.text


def test_connection_serves_on_after_a_refusal(client: Client) -> None:
    assert client.refused({"txt": ["a"]}).text
    assert client.infer({"text": ["a"]})["label"].shape == (1, 1)


def test_client_s_own_deadline_ends_the_call(server: Server, client: Client) -> None:
    if client.is_http:
        pytest.skip("the HTTP libraries have no deadline of a request")
    # To tokenize it takes many times as long as its caller has.
    found = client.refused({"text": ["long " * 300_000]}, client_timeout=0.02)
    # A gateway that sees at once that the answer would come too late says so before the deadline does.
    assert found.status in ("DEADLINE_EXCEEDED", *(() if server.is_triton else ("UNAVAILABLE",)))
