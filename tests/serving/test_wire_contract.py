"""The same rows get the same answers over every wire, with every client of Triton, from a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from serving.bundle import open_bundle
from serving.tensors import Row
from tests.serving.bundles import GRAPH_FILES, answered
from tests.serving.server_process import ServerProcess
from tests.serving.wires import OUTPUTS, WIRES, Answer, Wire

TEXTS = ("I want my money back", "Grüße aus 東京 👩‍🚀", 'tab\tand "quotes" \\ and \x00 nul', "a")
FOLDERS = {"intent": "intent/1", "topic": "topic/2"}


def expected(served: Path, model: str, row: Row) -> Row:
    """The answer of the graph, without engine, scheduler or wire."""
    folder = served / FOLDERS[model]
    bundle = open_bundle(folder)
    backend = bundle.manifest.backend
    return answered(bundle.open_task(), backend, folder / GRAPH_FILES[backend], row)


def assert_answers(answer: Answer, rows: list[Row]) -> None:
    assert answer.outputs["label"].tolist() == [[row["label"]] for row in rows]
    np.testing.assert_allclose(answer.outputs["score"], [[row["score"]] for row in rows], rtol=1e-5)
    for name in ("probabilities", "logits"):
        np.testing.assert_allclose(answer.outputs[name], [row[name] for row in rows], rtol=1e-5)
        assert answer.outputs[name].dtype == np.float32


@pytest.mark.parametrize("model", FOLDERS)
def test_batch_of_rows_is_answered_row_by_row(server: ServerProcess, served: Path, wire: Wire, model: str) -> None:
    answer = wire.ask(server, {"text": TEXTS}, model=model)
    assert set(answer.outputs) == set(OUTPUTS)
    assert_answers(answer, [expected(served, model, {"text": text}) for text in TEXTS])


@pytest.mark.parametrize("text", TEXTS)
def test_text_arrives_whole(server: ServerProcess, served: Path, wire: Wire, text: str) -> None:
    assert_answers(wire.ask(server, {"text": [text]}), [expected(served, "intent", {"text": text})])


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's
def test_text_of_a_megabyte_is_answered(server: ServerProcess, served: Path, wire: Wire) -> None:
    text = "please" + " " * 2**20 + "refund me"
    assert_answers(wire.ask(server, {"text": [text]}), [expected(served, "intent", {"text": "please refund me"})])


def test_optional_second_text_changes_the_answer(server: ServerProcess, served: Path, wire: Wire) -> None:
    pairs = {"text": ["a", "a"], "text_pair": ["x", "Größe"]}
    rows = [expected(served, "intent", {"text": "a", "text_pair": pair}) for pair in pairs["text_pair"]]
    assert_answers(wire.ask(server, pairs), rows)
    alone = wire.ask(server, {"text": ["a"]})
    assert not np.allclose(alone.outputs["logits"][0], rows[0]["logits"])


def test_id_model_and_version_are_echoed(server: ServerProcess, wire: Wire) -> None:
    answer = wire.ask(server, {"text": ["a"]}, model="topic", request_id="order-7 ü")
    assert (answer.id, answer.model, answer.version) == ("order-7 ü", "topic", "2")


def test_version_may_be_named(server: ServerProcess, wire: Wire) -> None:
    assert wire.ask(server, {"text": ["a"]}, model="topic", model_version="2").version == "2"


def test_only_requested_outputs_come_back(server: ServerProcess, wire: Wire) -> None:
    answer = wire.ask(server, {"text": ["a", "b"]}, outputs=["score"])
    assert answer.outputs["score"].shape == (2, 1)
    result = wire.ask(server, {"text": ["a"]}, outputs=["logits", "label"])
    assert set(result.outputs) == {"logits", "label"}


def test_request_with_time_enough_is_answered(server: ServerProcess, wire: Wire) -> None:
    assert wire.ask(server, {"text": ["a"]}, timeout=60_000_000).outputs["label"].shape == (1, 1)


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.name.endswith("aio")], ids=lambda wire: wire.name)
def test_many_requests_at_once_each_get_their_own_answer(server: ServerProcess, served: Path, wire: Wire) -> None:
    texts = [f"{'x' * (number % 7)} number {number}" for number in range(40)]

    async def ask() -> list[Answer]:
        async with wire.client(server) as client:
            calls = [client.infer(**wire.request({"text": [text]}, request_id=text)) for text in texts]
            return [wire.answer(result, OUTPUTS) for result in await asyncio.gather(*calls)]

    for text, answer in zip(texts, asyncio.run(ask()), strict=True):
        assert answer.id == text
        assert_answers(answer, [expected(served, "intent", {"text": text})])


@pytest.mark.parametrize("wire", [wire for wire in WIRES if not wire.name.endswith("aio")], ids=lambda wire: wire.name)
def test_connection_serves_on_after_a_refusal(server: ServerProcess, wire: Wire) -> None:
    client = wire.client(server)
    try:
        with pytest.raises(InferenceServerException):
            client.infer(**wire.request({"txt": ["a"]}))
        assert client.infer(**wire.request({"text": ["a"]})).as_numpy("label").shape == (1, 1)
    finally:
        client.close()


def test_digest_of_the_version_is_told_to_those_who_ask(server: ServerProcess, served: Path, wire: Wire) -> None:
    for model, place in FOLDERS.items():
        digest = open_bundle(served / place).manifest.digest
        answer = wire.ask(server, {"text": ["a"]}, model=model, parameters={"model_digest": True})
        assert answer.parameters == {"model_digest": digest}
    assert wire.ask(server, {"text": ["a"]}).parameters == {}
    assert wire.ask(server, {"text": ["a"]}, parameters={"model_digest": False}).parameters == {}
    with pytest.raises(InferenceServerException, match="'model_digest' must be true or false"):
        wire.ask(server, {"text": ["a"]}, parameters={"model_digest": 1})


def test_health_and_metadata_of_the_client_libraries(server: ServerProcess, served: Path, wire: Wire) -> None:
    async def as_called(value: object) -> object:
        return await value if asyncio.iscoroutine(value) else value  # type: ignore[misc]

    async def ask() -> None:
        client = wire.client(server)
        assert await as_called(client.is_server_live())
        assert not await as_called(client.is_server_ready()), "a model is quarantined"
        assert await as_called(client.is_model_ready("topic", "2"))
        assert not await as_called(client.is_model_ready("broken"))
        metadata = await as_called(client.get_model_metadata("topic"))
        found = metadata if isinstance(metadata, dict) else {"versions": metadata.versions}  # type: ignore[attr-defined]
        assert list(found["versions"]) == ["2"]
        config = await as_called(client.get_model_config("topic"))
        if isinstance(metadata, dict):
            told = {metadata["parameters"]["model_digest"], config["parameters"]["model_digest"]["string_value"]}  # type: ignore[index]
        else:
            told = {config.config.parameters["model_digest"].string_value}  # type: ignore[attr-defined]
        assert told == {open_bundle(served / FOLDERS["topic"]).manifest.digest}
        index = await as_called(client.get_model_repository_index())
        entries = index if isinstance(index, list) else [{"name": m.name, "state": m.state} for m in index.models]  # type: ignore[attr-defined]
        states = {entry["name"]: entry["state"] for entry in entries}
        assert states == {"intent": "READY", "topic": "READY", "broken": "UNAVAILABLE"}
        await as_called(client.close())

    asyncio.run(ask())
