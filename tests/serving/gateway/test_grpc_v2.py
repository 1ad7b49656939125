"""gRPC beyond what all wires share: typed contents, deadlines, what is not offered, and the index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from serving.cost import CostModel
from serving.gateway.grpc_messages import CONTENTS, parse_infer
from serving.gateway.shared_memory import Regions
from serving.gateway.v2 import Inference
from serving.repository import Repository
from serving.tensors import NUMPY_TYPES
from tests.serving.bundles import LABELS, write_bundle
from tests.serving.gateway.rpc import over_grpc, refused, request
from tests.serving.held_backend import HeldBackend
from tests.serving.turns import until


def test_typed_contents_are_answered_with_raw_outputs(inference: Inference) -> None:
    response = over_grpc(inference, lambda stub: stub.ModelInfer(request()))
    names = [output.name for output in response.outputs]
    assert names == ["label", "score", "probabilities", "logits"]
    assert len(response.raw_output_contents) == len(names)
    probabilities = np.frombuffer(response.raw_output_contents[2], np.float32)
    assert probabilities.sum() == pytest.approx(1)
    assert response.raw_output_contents[0][4:].decode() == LABELS[int(probabilities.argmax())]


def test_raw_and_typed_contents_cannot_be_mixed(inference: Inference) -> None:
    message = request()
    message.raw_input_contents.append(b"\x01\x00\x00\x00a")
    code, text = refused(inference, lambda stub: stub.ModelInfer(message))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "mixed" in text


def test_raw_contents_must_be_as_many_as_inputs(inference: Inference) -> None:
    message = pb.ModelInferRequest(model_name="intent", raw_input_contents=[b"", b""])
    message.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    code, text = refused(inference, lambda stub: stub.ModelInfer(message))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "2 elements for 1 inputs" in text


@pytest.mark.parametrize("datatype", sorted(CONTENTS))
def test_typed_contents_of_every_datatype_are_read(datatype: str) -> None:
    message = pb.ModelInferRequest(model_name="m")
    item = message.inputs.add(name="x", datatype=datatype, shape=[2])
    values: list[Any] = {"BYTES": [b"a", b"b"], "BOOL": [True, False]}.get(datatype, [1, 0])
    getattr(item.contents, CONTENTS[datatype]).extend(values)
    (tensor,) = parse_infer(message, None, Regions(allowed=False, largest=0)).inputs
    assert tensor.array.dtype == NUMPY_TYPES[datatype]
    assert tensor.array.tolist() == values


def test_typed_number_that_its_datatype_cannot_hold_is_refused(inference: Inference) -> None:
    message = pb.ModelInferRequest(model_name="intent")
    item = message.inputs.add(name="text", datatype="UINT8", shape=[1])
    item.contents.uint_contents.append(300)
    code, text = refused(inference, lambda stub: stub.ModelInfer(message))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "'text'" in text


def test_half_precision_has_no_typed_contents(inference: Inference) -> None:
    message = pb.ModelInferRequest(model_name="intent")
    message.inputs.add(name="text", datatype="FP16", shape=[1])
    code, text = refused(inference, lambda stub: stub.ModelInfer(message))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "raw_input_contents" in text


def test_deadline_of_the_call_and_time_in_the_queue_are_told_apart() -> None:
    message = request()
    message.parameters["timeout"].int64_param = 2_000_000
    message.parameters["priority"].uint64_param = 3
    parsed = parse_infer(message, 3.0, Regions(allowed=False, largest=0))
    assert (parsed.timeout, parsed.wait, parsed.priority) == (3.0, 2.0, 3)


def test_call_that_cannot_make_its_deadline_is_refused_at_once(inference: Inference, loaded: Repository) -> None:
    loaded.get("intent").cost = CostModel(base=100.0, token=0.0, square=0.0)
    code, text = refused(inference, lambda stub: stub.ModelInfer(request(), timeout=60))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "deadline" in text


def test_row_of_a_caller_that_leaves_is_not_run(inference: Inference, loaded: Repository, held: HeldBackend) -> None:
    engine = loaded.get("intent")
    running = [engine.submit({"text": "a"}) for _ in range(2)]  # one for each runner
    for _ in running:
        held.wait_until_running()

    async def leave(stub: Any) -> None:
        call = stub.ModelInfer(request())
        await until(lambda: engine.waiting)
        (entry,) = engine._scheduler._waiting
        call.cancel()
        await until(entry.future.cancelled)

    over_grpc(inference, leave)
    held.released.set()
    engine.close()
    assert all(future.done() for future in running)
    assert held.batches == [1, 1]


def test_health_and_metadata(inference: Inference) -> None:
    async def ask(stub: Any) -> None:
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="intent"))).ready
        assert (await stub.ServerMetadata(pb.ServerMetadataRequest())).name == "downstream"
        metadata = await stub.ModelMetadata(pb.ModelMetadataRequest(name="intent", version="1"))
        assert [(item.name, list(item.shape)) for item in metadata.inputs] == [
            ("text", [-1, 1]),
            ("text_pair", [-1, 1]),
            ("input_ids", [-1, -1]),
            ("attention_mask", [-1, -1]),
        ]
        assert len(metadata.outputs) == 4

    over_grpc(inference, ask)


def test_server_that_is_stopping_is_live_but_not_ready(inference: Inference) -> None:
    inference.stopping = True

    async def ask(stub: Any) -> None:
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="intent"))).ready

    over_grpc(inference, ask)


def test_index_has_the_reason_and_can_be_asked_for_ready_models_only(
    repository: Repository, inference: Inference
) -> None:
    write_bundle(repository.folder, "bad", wrong_golden=True)
    repository.load_all()

    async def ask(stub: Any) -> None:
        everything = (await stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
        assert [(model.name, model.state) for model in everything] == [("bad", "UNAVAILABLE"), ("intent", "READY")]
        assert "golden" in everything[0].reason
        ready = (await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))).models
        assert [model.name for model in ready] == ["intent"]

    over_grpc(inference, ask)


def test_unknown_model_is_not_found_by_every_method_that_names_one(inference: Inference) -> None:
    for script in (
        lambda stub: stub.ModelMetadata(pb.ModelMetadataRequest(name="absent")),
        lambda stub: stub.ModelInfer(request(model="absent")),
    ):
        code, text = refused(inference, script)
        assert code == grpc.StatusCode.NOT_FOUND
        assert "'absent'" in text


def test_internal_error_hides_its_details(
    inference: Inference, held: HeldBackend, caplog: pytest.LogCaptureFixture
) -> None:
    held.failure = RuntimeError("secret")
    held.released.set()
    code, text = refused(inference, lambda stub: stub.ModelInfer(request()))
    assert code == grpc.StatusCode.INTERNAL
    assert "secret" not in text
    assert text.split("id ")[1].split(";")[0] in caplog.text


def test_unknown_model_is_not_ready_so_that_clients_can_wait_for_it(inference: Inference) -> None:
    response = over_grpc(inference, lambda stub: stub.ModelReady(pb.ModelReadyRequest(name="absent")))
    assert response.ready is False


@pytest.mark.parametrize("letter", ["m", "漢", "👩", "\n"])
def test_long_names_in_errors_do_not_hide_the_code(inference: Inference, letter: str) -> None:
    code, details = refused(inference, lambda stub: stub.ModelInfer(request(model=letter * 20_000)))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "unknown model" in details


def test_message_over_the_limit_of_a_body_is_refused(loaded: Repository, inference: Inference) -> None:
    code, _ = refused(inference, lambda stub: stub.ModelInfer(request("x" * 2**26)))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_requests_are_counted_by_outcome(
    loaded: Repository, inference: Inference, sample: Callable[..., float | None]
) -> None:
    over_grpc(inference, lambda stub: stub.ModelInfer(request()))
    refused(inference, lambda stub: stub.ModelInfer(request(text="")))
    refused(inference, lambda stub: stub.ModelInfer(request(model="absent")))
    labels = {"protocol": "grpc"}
    assert sample("downstream_requests_total", model="intent", outcome="ok", **labels) == 1
    assert sample("downstream_requests_total", model="intent", outcome="InvalidInput", **labels) == 1
    assert sample("downstream_requests_total", model="unknown", outcome="NotFound", **labels) == 1
