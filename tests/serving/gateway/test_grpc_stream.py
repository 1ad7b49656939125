"""ModelStreamInfer: order, errors within the stream, and nothing left behind by clients that leave or stop reading."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, nullcontext
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from serving.errors import NotReady
from serving.gateway.grpc_v2 import IN_FLIGHT, _in_order
from serving.gateway.management import Management
from serving.gateway.v2 import Inference
from serving.repository import Repository
from tests.serving.bundles import write_bundle
from tests.serving.gateway.rpc import over_channel, over_grpc, refused, request
from tests.serving.held_backend import PATIENCE, HeldBackend
from tests.serving.server_process import ServerProcess
from tests.serving.turns import until
from tests.serving.wires import column

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


async def answers(call: Any) -> list[Any]:
    """Every message of a stream."""
    return [message async for message in call]


def rows(*texts: str) -> Iterable[pb.ModelInferRequest]:
    return [request(text, identifier=text or "empty") for text in texts]


def own_tasks() -> list[str]:
    """What this server's streams have running."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return [name for name in names if "Servicer" in name or "_in_order" in name or "Engine" in name]


def test_every_request_has_one_answer_in_order_and_each_is_the_last_of_its_request(inference: Inference) -> None:
    texts = [letter * (1 + 37 * number % 50) for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz")]
    found = over_grpc(inference, lambda stub: answers(stub.ModelStreamInfer(iter(rows(*texts)))))
    assert [message.infer_response.id for message in found] == texts
    for message in found:
        assert message.error_message == ""
        assert message.infer_response.parameters["triton_final_response"].bool_param is True
        assert len(message.infer_response.raw_output_contents) == 4


def test_answer_is_that_of_the_single_call(inference: Inference) -> None:
    async def both(stub: Any) -> None:
        (streamed,) = await answers(stub.ModelStreamInfer(iter([request("hello")])))
        alone = await stub.ModelInfer(request("hello"))
        streamed.infer_response.parameters.clear()
        assert streamed.infer_response == alone

    over_grpc(inference, both)


def test_stream_without_requests_ends_well(inference: Inference) -> None:
    assert over_grpc(inference, lambda stub: answers(stub.ModelStreamInfer(iter([])))) == []


def test_slow_request_holds_back_the_answers_after_it_though_they_are_there(
    loaded: Repository, inference: Inference, held: HeldBackend
) -> None:
    write_bundle(loaded.folder, "quick")
    loaded.load("quick")
    quick = loaded.get("quick").statistics

    async def ask(stub: Any) -> None:
        requests = [request("a", identifier="slow"), request("a", "quick", "quick")]
        receiving = asyncio.create_task(answers(stub.ModelStreamInfer(iter(requests))))
        await until(lambda: quick.snapshot()["inference_count"])
        assert not receiving.done()
        held.released.set()
        assert [message.infer_response.id for message in await receiving] == ["slow", "quick"]

    over_grpc(inference, ask)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (request("", identifier="wrong"), "text: is empty"),
        (request("a", "absent", "wrong"), "unknown model: 'absent'"),
        (pb.ModelInferRequest(model_name="intent", id="wrong"), "Missing: text"),
    ],
    ids=["row", "model", "inputs"],
)
def test_error_is_a_message_with_the_id_of_its_request_and_the_stream_goes_on(
    inference: Inference, wrong: pb.ModelInferRequest, said: str
) -> None:
    requests = [request("a", identifier="first"), wrong, request("b", identifier="last")]
    found = over_grpc(inference, lambda stub: answers(stub.ModelStreamInfer(iter(requests))))
    assert [message.infer_response.id for message in found] == ["first", "wrong", "last"]
    assert [bool(message.error_message) for message in found] == [False, True, False]
    assert said in found[1].error_message
    assert list(found[1].infer_response.outputs) == []


def test_unexpected_error_is_told_by_its_id_only(
    inference: Inference, held: HeldBackend, caplog: pytest.LogCaptureFixture
) -> None:
    held.failure = RuntimeError("secret")
    held.released.set()
    (found,) = over_grpc(inference, lambda stub: answers(stub.ModelStreamInfer(iter(rows("a")))))
    assert "secret" not in found.error_message
    assert found.error_message.split("id ")[1].split(";")[0] in caplog.text


def test_first_error_ends_a_stream_that_asks_for_it_as_a_status(inference: Inference) -> None:
    received = []

    async def ask(stub: Any) -> None:
        requests = rows("a", "", "b")
        async for message in stub.ModelStreamInfer(iter(requests), metadata=(("triton_grpc_error", "true"),)):
            received.append(message.infer_response.id)

    code, text = refused(inference, ask)
    assert (code, received) == (grpc.StatusCode.INVALID_ARGUMENT, ["a"])
    assert "text: is empty" in text


def test_other_metadata_changes_nothing(inference: Inference) -> None:
    metadata = (("triton_grpc_error", "false"), ("x-trace", "1"))
    found = over_grpc(inference, lambda stub: answers(stub.ModelStreamInfer(iter(rows("", "a")), metadata=metadata)))
    assert [message.infer_response.id for message in found] == ["empty", "a"]


def test_wish_for_an_empty_last_message_changes_nothing_and_other_reserved_names_are_refused(
    inference: Inference,
) -> None:
    allowed, reserved = rows("a", "b")
    allowed.parameters["triton_enable_empty_final_response"].bool_param = True
    reserved.parameters["triton_x"].bool_param = True
    found = over_grpc(inference, lambda stub: answers(stub.ModelStreamInfer(iter([allowed, reserved]))))
    assert [message.error_message[:14] for message in found] == ["", "parameter keys"]


def test_message_that_cannot_be_read_ends_the_stream_after_the_answers_before_it(management: Management) -> None:
    async def ask(channel: Any) -> None:
        stream = channel.stream_stream(METHOD, response_deserializer=pb.ModelStreamInferResponse.FromString)
        call = stream()
        await call.write(request("a", identifier="a").SerializeToString())
        assert (await call.read()).infer_response.id == "a"
        await call.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be read" in str(caught.value.details())
        await until(lambda: not own_tasks())

    over_channel(management, ask)


def test_rows_of_a_client_that_leaves_are_not_run_and_no_task_is_left_behind(
    loaded: Repository, inference: Inference, held: HeldBackend
) -> None:
    engine = loaded.get("intent")
    running = [engine.submit({"text": "a"}) for _ in range(2)]  # one for each runner
    for _ in running:
        held.wait_until_running()

    async def leave(stub: Any) -> None:
        call = stub.ModelStreamInfer(iter(rows(*map(str, range(2 * IN_FLIGHT)))))
        reading = asyncio.create_task(call.read())
        await until(lambda: engine.waiting == IN_FLIGHT)
        waiting = list(engine._scheduler._waiting)
        call.cancel()
        await until(lambda: all(entry.future.cancelled() for entry in waiting))
        await until(lambda: not own_tasks())
        with pytest.raises(asyncio.CancelledError):
            await reading

    over_grpc(inference, leave)
    held.released.set()
    engine.close()
    assert all(future.done() for future in running)
    assert held.batches == [1, 1]


def test_client_that_never_reads_keeps_no_others_waiting_and_leaves_nothing_behind(inference: Inference) -> None:
    large = "x" * 100_000  # comes back with every answer, and fills what the network holds

    async def ask(stub: Any) -> None:
        call = stub.ModelStreamInfer()
        sending = asyncio.create_task(send(call))
        await until(lambda: own_tasks())
        for _ in range(10):
            assert (await stub.ModelInfer(request("a"))).outputs
        sending.cancel()
        call.cancel()
        await until(lambda: not own_tasks())

    async def send(call: Any) -> None:
        for _ in range(10 * IN_FLIGHT):
            await call.write(request("a", identifier=large))

    over_grpc(inference, ask)


def test_deadline_of_the_stream_ends_it_with_its_rows(
    loaded: Repository, inference: Inference, held: HeldBackend
) -> None:
    async def ask(stub: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answers(stub.ModelStreamInfer(iter(rows("a")), timeout=0.5))
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: not own_tasks())

    over_grpc(inference, ask)


def test_stream_ends_when_the_ports_close_after_the_answers_that_were_begun(
    loaded: Repository, inference: Inference, held: HeldBackend
) -> None:
    async def ask(stub: Any) -> None:
        call = stub.ModelStreamInfer()
        await call.write(request("a", identifier="begun"))
        await until(lambda: held.entered.acquire(blocking=False))
        inference.closing.set()
        held.released.set()
        assert (await call.read()).infer_response.id == "begun"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "stopping" in str(caught.value.details())

    over_grpc(inference, ask)


class Requests:
    """Numbers without end, or until ``failure``; how many were taken."""

    def __init__(self, failure: Exception | None = None, many: int = 10**9) -> None:
        self.taken, self._failure, self._many = 0, failure, many

    async def __aiter__(self) -> AsyncIterator[int]:
        while self.taken < self._many:
            self.taken += 1
            yield self.taken
        if self._failure:
            raise self._failure


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_few_are_begun_while_nobody_takes_the_answers_and_more_as_they_are_taken() -> None:
    async def play() -> None:
        requests = Requests()
        async with aclosing(_in_order(requests, double, asyncio.Event())) as answered:
            for number in range(1, 4):
                request, answering = await anext(answered)
                assert (request, await answering) == (number, 2 * number)
                for _ in range(5 * IN_FLIGHT):
                    await asyncio.sleep(0)
                # One more is read, and waits for its place; the one that was yielded last keeps its own.
                assert requests.taken == number + IN_FLIGHT
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(play())


@pytest.mark.parametrize("failure", [DecodeError("no message"), None])
def test_what_ends_the_requests_comes_after_their_answers(failure: Exception | None) -> None:
    async def play() -> list[int]:
        found = []
        with pytest.raises(DecodeError, match="no message") if failure else nullcontext():
            async for _, answering in _in_order(Requests(failure, many=5), double, asyncio.Event()):
                found.append(await answering)
        return found

    assert asyncio.run(play()) == [2, 4, 6, 8, 10]


def test_answers_that_failed_and_were_never_taken_are_no_loose_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(number: int) -> int:
        raise ValueError(number)

    async def play() -> None:
        async with aclosing(_in_order(Requests(many=9), fail, asyncio.Event())) as answered:
            _, answering = await anext(answered)
            with pytest.raises(ValueError, match="1"):
                await answering
            await asyncio.sleep(0)

    asyncio.run(play())
    assert caplog.text == ""


def test_closing_ends_even_a_stream_that_nobody_writes_to() -> None:
    async def silent() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    async def play() -> None:
        closing = asyncio.Event()
        answered = _in_order(silent(), double, closing)
        waiting = asyncio.ensure_future(anext(answered))
        await asyncio.sleep(0)
        closing.set()
        with pytest.raises(NotReady, match="stopping"):
            await waiting

    asyncio.run(play())


def test_streaming_client_of_triton_gets_answers_and_errors_in_order(server: ServerProcess) -> None:
    received: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = tritonclient.grpc.InferenceServerClient(server.grpc)
    client.start_stream(lambda result, error: received.put((result, error)))
    for text in ("one", "", "three"):
        item = tritonclient.grpc.InferInput("text", [1, 1], "BYTES")
        item.set_data_from_numpy(column([text]))
        client.async_stream_infer("intent", [item], request_id=text)
    found = [received.get(timeout=PATIENCE) for _ in range(3)]
    client.stop_stream()
    client.close()
    assert [result and result.get_response().id for result, _ in found] == ["one", None, "three"]
    assert "text: is empty" in found[1][1].message()
    assert found[2][0].as_numpy("logits").dtype == np.float32


def test_asynchronous_streaming_client_of_triton_gets_its_answers(server: ServerProcess) -> None:
    async def inputs() -> AsyncIterator[dict[str, Any]]:
        for text in ("one", "two"):
            item = tritonclient.grpc.aio.InferInput("text", [1, 1], "BYTES")
            item.set_data_from_numpy(column([text]))
            yield {"model_name": "intent", "inputs": [item], "request_id": text}

    async def ask() -> list[str]:
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
            return [result.get_response().id async for result, error in client.stream_infer(inputs()) if not error]

    assert asyncio.run(ask()) == ["one", "two"]


def test_stub_of_the_whole_service_is_answered(inference: Inference) -> None:
    """The stubs of the client library and this server are of one definition."""
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}

    async def names(channel: Any) -> set[str]:
        return {name for name in vars(GRPCInferenceServiceStub(channel)) if not name.startswith("_")}

    assert over_channel(Management(inference, explicit=False), names) == methods
