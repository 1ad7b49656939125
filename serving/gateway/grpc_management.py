"""The management methods of inference.GRPCInferenceService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from serving.errors import InvalidInput, NotFound, Unsupported
from serving.gateway.grpc_messages import plain_parameters
from serving.gateway.management import Management

NO_CUDA = "CUDA shared memory is not supported: this server runs on the CPU"


class ManagementMethods:
    """Health, metadata, configuration, statistics, repository, trace, log and shared memory; raises DownstreamError."""

    def __init__(self, management: Management) -> None:
        self.management = management

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=self.management.inference.ready())

    async def ModelReady(self, request: Any, context: Any) -> Any:
        try:
            ready = self.management.inference.model_ready(request.name, request.version)
        except NotFound:
            ready = False  # as Triton: clients wait for a model that is to come
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return pb.ServerMetadataResponse(**self.management.inference.server_metadata())

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        return pb.ModelMetadataResponse(**self.management.inference.model_metadata(request.name, request.version))

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        return pb.ModelConfigResponse(config=self.management.config(request.name, request.version))

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        found = await self.management.statistics(request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=found)

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        _check_repository(request)
        return pb.RepositoryIndexResponse(models=self.management.index(ready=request.ready))

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        _check_repository(request)
        await self.management.load(request.model_name, plain_parameters(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        _check_repository(request)
        await self.management.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def TraceSetting(self, request: Any, context: Any) -> Any:
        changes = {name: _trace_value(name, list(setting.value)) for name, setting in request.settings.items()}
        found = await self.management.trace_settings(request.model_name, changes)
        answer = pb.TraceSettingResponse()
        for name, value in found.items():
            answer.settings[name].value.extend(value if isinstance(value, list) else [value])
        return answer

    async def LogSettings(self, request: Any, context: Any) -> Any:
        settings = self.management.inference.logging
        changes = plain_parameters(request.settings)
        return _log_response(await self.management.log_settings(changes) if changes else settings.settings())

    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        answer = pb.SystemSharedMemoryStatusResponse()
        for region in self.management.inference.regions.status(request.name):
            answer.regions[region["name"]].CopyFrom(pb.SystemSharedMemoryStatusResponse.RegionStatus(**region))
        return answer

    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        await self.management.change("register", request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        await self.management.change("unregister", request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        if request.name:
            raise Unsupported(NO_CUDA)
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        raise Unsupported(NO_CUDA)

    async def CudaSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        return pb.CudaSharedMemoryUnregisterResponse()


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise Unsupported("'repository_name' specification is not supported; leave it out")


def _trace_value(name: str, values: list[str]) -> Any:
    """A setting as the JSON form has it: a list for the level, one text for the others, None for none."""
    if not values or name == "trace_level":
        return values or None
    if len(values) > 1:
        raise InvalidInput(f"expect only 1 value for '{name}', got {len(values)}")
    return values[0]


def _log_response(settings: Mapping[str, Any]) -> Any:
    answer = pb.LogSettingsResponse()
    for name, value in settings.items():
        kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
        setattr(answer.settings[name], kind, value)
    return answer
