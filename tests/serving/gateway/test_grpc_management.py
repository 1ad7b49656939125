"""The management methods over gRPC: the same things as over HTTP, in the messages of Triton's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import write_bundle
from tests.serving.gateway.rpc import over_grpc, refused, request

CONFIG = '{"backend": "downstream", "max_batch_size": 2}'
CODE = grpc.StatusCode


def load_request(model: str = "intent", **parameters: str | bytes | bool) -> pb.RepositoryModelLoadRequest:
    message = pb.RepositoryModelLoadRequest(model_name=model)
    kinds = {str: "string_param", bytes: "bytes_param", bool: "bool_param"}
    for name, value in parameters.items():
        setattr(message.parameters[name], kinds[type(value)], value)
    return message


def trace_request(model: str = "", **settings: list[str]) -> pb.TraceSettingRequest:
    message = pb.TraceSettingRequest(model_name=model)
    for name, values in settings.items():
        message.settings[name].value.extend(values)
    return message


def trace_settings(response: Any) -> dict[str, list[str]]:
    return {name: list(setting.value) for name, setting in response.settings.items()}


def log_settings(response: Any) -> dict[str, Any]:
    return {
        name: getattr(setting, setting.WhichOneof("parameter_choice")) for name, setting in response.settings.items()
    }


def test_configuration_is_the_message_of_triton(inference: Inference) -> None:
    response = over_grpc(inference, lambda stub: stub.ModelConfig(pb.ModelConfigRequest(name="intent", version="1")))
    config = response.config
    assert (config.name, config.backend, config.max_batch_size) == ("intent", "downstream", 4)
    assert [item.name for item in config.output] == ["label", "score", "probabilities", "logits"]


def test_statistics_are_those_of_the_requests_before(inference: Inference, loaded: Repository) -> None:
    write_bundle(loaded.folder, "other")
    loaded.load("other")

    async def ask(stub: Any) -> None:
        message = request("a")
        message.inputs[0].shape[:] = [3, 1]
        message.inputs[0].contents.bytes_contents.extend([b"b", b"c"])
        await stub.ModelInfer(message)
        everything = (await stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats
        assert [(found.name, found.version) for found in everything] == [("intent", "1"), ("other", "1")]
        for version in ("", "1"):
            (found,) = (
                await stub.ModelStatistics(pb.ModelStatisticsRequest(name="intent", version=version))
            ).model_stats
            assert (found.inference_count, found.inference_stats.success.count) == (3, 1)
            assert found.execution_count == sum(batch.compute_infer.count for batch in found.batch_stats) >= 1
            assert found.inference_stats.success.ns > found.inference_stats.compute_infer.ns > 0
            assert found.last_inference > 0

    over_grpc(inference, ask)


def test_model_is_unloaded_and_loaded(inference: Inference) -> None:
    async def ask(stub: Any) -> None:
        await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="intent"))
        (entry,) = (await stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
        assert (entry.name, entry.version, entry.state, entry.reason) == ("intent", "1", "UNAVAILABLE", "unloaded")
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="intent"))).ready
        await stub.RepositoryModelLoad(load_request(config=CONFIG))
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="intent"))).ready
        assert (await stub.ModelConfig(pb.ModelConfigRequest(name="intent"))).config.max_batch_size == 2

    over_grpc(inference, ask)


def test_files_of_a_model_come_as_bytes(inference: Inference, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "elsewhere", "guest")
    files = {f"file:1/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    async def ask(stub: Any) -> None:
        await stub.RepositoryModelLoad(load_request("guest", config=CONFIG, **files))
        assert (await stub.ModelInfer(request("a", "guest"))).model_name == "guest"

    over_grpc(inference, ask)


def test_name_of_a_model_that_is_a_path_writes_no_files(inference: Inference, tmp_path: Path) -> None:
    message = load_request(str(tmp_path / "there"), **{"config": CONFIG, "file:evil": b""})
    code, _ = refused(inference, lambda stub: stub.RepositoryModelLoad(message))
    assert code == CODE.NOT_FOUND
    assert not (tmp_path / "there").exists()


def test_trace_settings_of_all_models_and_of_one(inference: Inference) -> None:
    async def ask(stub: Any) -> None:
        before = trace_settings(await stub.TraceSetting(trace_request()))
        assert before["trace_level"] == ["OFF"]
        assert before["trace_rate"] == ["1000"]
        changed = await stub.TraceSetting(trace_request(trace_rate=["5"], trace_count=["3"]))
        assert trace_settings(changed) == {**before, "trace_rate": ["5"], "trace_count": ["3"]}
        own = await stub.TraceSetting(trace_request("intent", trace_rate=["9"]))
        assert trace_settings(own)["trace_rate"] == ["9"]
        back = await stub.TraceSetting(trace_request("intent", trace_rate=[]))
        assert trace_settings(back)["trace_rate"] == ["5"]
        back = await stub.TraceSetting(trace_request(trace_rate=[], trace_count=[], trace_level=[]))
        assert trace_settings(back) == before

    over_grpc(inference, ask)


def test_log_settings_have_values_of_their_types(inference: Inference) -> None:
    async def ask(stub: Any) -> None:
        before = log_settings(await stub.LogSettings(pb.LogSettingsRequest()))
        assert before["log_file"] == ""
        message = pb.LogSettingsRequest()
        message.settings["log_verbose_level"].uint32_param = 2**32 - 1
        message.settings["log_format"].string_param = "ISO8601"
        message.settings["log_error"].bool_param = False
        changes = {"log_verbose_level": 2**32 - 1, "log_format": "ISO8601", "log_error": False}
        for _ in range(2):
            assert log_settings(await stub.LogSettings(message)) == {**before, **changes}
        message = pb.LogSettingsRequest()
        message.settings["log_error"].SetInParent()  # no value: as it is
        assert log_settings(await stub.LogSettings(message)) == {**before, **changes}

    over_grpc(inference, ask)


def test_shared_memory_is_registered_told_and_forgotten(loaded: Repository, metrics: Metrics, tmp_path: Path) -> None:
    inference = Inference(loaded, metrics, Settings(allow_shared_memory=True))
    inference.regions._root = tmp_path
    (tmp_path / "shared").write_bytes(b"\x05\x00\x00\x00hello" + bytes(55))

    async def ask(stub: Any) -> None:
        register = pb.SystemSharedMemoryRegisterRequest(name="r", key="/shared", offset=0, byte_size=64)
        await stub.SystemSharedMemoryRegister(register)
        for name in ("", "r"):
            status = await stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name=name))
            assert {n: (r.name, r.key, r.offset, r.byte_size) for n, r in status.regions.items()} == {
                "r": ("r", "/shared", 0, 64)
            }
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SystemSharedMemoryRegister(register)
        assert caught.value.code() == CODE.ALREADY_EXISTS

        message = pb.ModelInferRequest(model_name="intent")
        item = message.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
        item.parameters["shared_memory_region"].string_param = "r"
        item.parameters["shared_memory_byte_size"].int64_param = 9
        output = message.outputs.add(name="logits")
        output.parameters["shared_memory_region"].string_param = "r"
        output.parameters["shared_memory_byte_size"].int64_param = 12
        output.parameters["shared_memory_offset"].int64_param = 16
        message.outputs.add(name="score")
        answer = await stub.ModelInfer(message)
        assert [len(content) for content in answer.raw_output_contents] == [0, 4]
        assert [list(output.parameters) for output in answer.outputs] == [[], []]
        alone = await stub.ModelInfer(request("hello"))
        assert (tmp_path / "shared").read_bytes()[16:28] == alone.raw_output_contents[3]

        await stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
        status = await stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())
        assert dict(status.regions) == {}

    over_grpc(inference, ask)


def test_cuda_memory_is_empty_and_can_be_forgotten(inference: Inference) -> None:
    async def ask(stub: Any) -> None:
        assert dict((await stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest())).regions) == {}
        for name in ("", "r"):
            await stub.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest(name=name))

    over_grpc(inference, ask)


def log_request(**changes: Any) -> pb.LogSettingsRequest:
    message = pb.LogSettingsRequest()
    for name, value in changes.items():
        kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
        setattr(message.settings[name], kind, value)
    return message


@pytest.mark.parametrize(
    ("method", "message", "code", "said"),
    [
        ("ModelConfig", pb.ModelConfigRequest(name="absent"), CODE.NOT_FOUND, "'absent'"),
        ("ModelConfig", pb.ModelConfigRequest(name="intent", version="7"), CODE.NOT_FOUND, "version 7"),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="absent"), CODE.NOT_FOUND, "'absent'"),
        ("ModelStatistics", pb.ModelStatisticsRequest(version="1"), CODE.NOT_FOUND, "''"),
        ("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="r"), CODE.UNIMPLEMENTED, "repository_name"),
        (
            "RepositoryModelLoad", pb.RepositoryModelLoadRequest(repository_name="r", model_name="intent"),
            CODE.UNIMPLEMENTED, "repository_name",
        ),
        ("RepositoryModelLoad", load_request("absent"), CODE.NOT_FOUND, "'absent'"),
        ("RepositoryModelLoad", load_request(config="{"), CODE.INVALID_ARGUMENT, "not the JSON"),
        ("RepositoryModelLoad", load_request(config=True), CODE.INVALID_ARGUMENT, "'config' must be"),
        ("RepositoryModelLoad", load_request(foo="x"), CODE.INVALID_ARGUMENT, "'foo'"),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="absent"), CODE.NOT_FOUND, "'absent'"),
        ("TraceSetting", trace_request("absent"), CODE.NOT_FOUND, "'absent'"),
        ("TraceSetting", trace_request(trace_rate=["1", "2"]), CODE.INVALID_ARGUMENT, "only 1 value for 'trace_rate'"),
        ("TraceSetting", trace_request(trace_rate=["0"]), CODE.INVALID_ARGUMENT, "trace_rate"),
        ("TraceSetting", trace_request(trace_level=["OFF", "TENSORS"]), CODE.UNIMPLEMENTED, "trace_level"),
        ("TraceSetting", trace_request(trace_file=["x"]), CODE.UNIMPLEMENTED, "--trace-file"),
        ("LogSettings", log_request(log_info=1), CODE.INVALID_ARGUMENT, "log_info"),
        ("LogSettings", log_request(log_file="x"), CODE.UNIMPLEMENTED, "log file"),
        (
            "SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="r", key="/a", byte_size=1),
            CODE.UNIMPLEMENTED, "--allow-shared-memory",
        ),
        ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name="r"), CODE.NOT_FOUND, "'r'"),
        ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest(name="r"), CODE.UNIMPLEMENTED, "CUDA"),
        ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="r"), CODE.UNIMPLEMENTED, "CUDA"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_the_code_and_the_text_of_its_reason(
    inference: Inference, method: str, message: Any, code: grpc.StatusCode, said: str
) -> None:
    found, text = refused(inference, lambda stub: getattr(stub, method)(message))
    assert found == code
    assert said in text
