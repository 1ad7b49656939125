"""What both protocols tell of models and do to them: configuration, statistics, index, load and unload."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.engine import Engine
from serving.errors import DownstreamError, InvalidInput, NotReady, Unsupported, shown
from serving.gateway.v2 import Inference
from serving.overrides import PREFIX, Override
from serving.repository import Repository
from serving.statistics import summed_by_key
from serving.workers.crew import Alone

# Of the statistics extension, what this server does not count; clients look for the keys.
UNCOUNTED: Mapping[str, Any] = {"response_stats": {}, "memory_usage": []}


class Management:
    """The management half of KServe v2, over the repository; ``explicit`` lets clients load and unload."""

    def __init__(self, inference: Inference, *, explicit: bool, crew: Alone | None = None) -> None:
        self.inference, self._explicit = inference, explicit
        self.crew = crew or Alone()
        # One after the other here too: each that waits in a thread would take it from rows that are encoded there.
        self._loading = asyncio.Lock()
        self.changing = asyncio.Lock()
        self.crew.actions |= {
            "load": self._load,
            "unload": self._unload,
            "change": self._change,
            "apply": self._apply,
            "settle": self._settle,
            "statistics": self._statistics,
        }

    @property
    def repository(self) -> Repository:
        """The models."""
        return self.inference.repository

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Every version, its state, and why it is not ready; with ``ready``, those that answer.

        A model whose configuration cannot be read has no version.
        """
        told = []
        for entry in self.repository.index():
            if entry.state == "READY" or not ready:
                found = {"name": entry.name, "version": str(entry.version or ""), "state": entry.state}
                told.append({key: value for key, value in {**found, "reason": entry.reason}.items() if value})
        return told

    def config(self, model: str, version: str = "") -> ModelConfig:
        """The configuration of a model, complete."""
        return self.repository.config(model, version)

    async def statistics(self, model: str = "", version: str = "") -> list[dict[str, Any]]:
        """Counts and times of a version, of all versions of a model, or of all models; those of all workers."""
        if version:
            engine = self.repository.get(model, version)
            engines = {(model, engine.bundle.manifest.version): engine}
        else:
            if model:
                self.repository.get(model)
            engines = {
                (name, number): engine
                for name, versions in self.repository.engines().items()
                for number, engine in versions.items()
                if model in ("", name)
            }
        counted = summed_by_key([told for told, _ in await self.crew.everyone("statistics")])
        return [
            {"name": name, "version": str(number), **counted[self._key(engine)], **UNCOUNTED}
            for (name, number), engine in sorted(engines.items(), key=lambda item: item[0])
        ]

    async def _statistics(self) -> dict[str, dict[str, Any]]:
        """The figures of this worker's engines, with those of the worker whose place it took."""
        engines = [engine for versions in self.repository.engines().values() for engine in versions.values()]
        own = {self._key(engine): engine.statistics.snapshot() for engine in engines}
        return summed_by_key([own, self.crew.told_before("statistics") or {}])

    def _key(self, engine: Engine) -> str:
        """The same in all workers that serve the same admitted version; counts begin again with the next."""
        admission = self.repository.admitted.get(engine)
        return admission.ident if admission else f"{engine.bundle.manifest.name}/{engine.bundle.manifest.version}"

    async def trace_settings(self, model: str = "", changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The trace settings, after these changes. Raises NotFound for a model that is not known."""
        if model:
            self.repository.get(model)
        if not changes:
            return self.inference.tracing.settings(model)
        if self.crew.workers > 1 and changes.get("trace_count") not in (None, "-1", -1):
            raise Unsupported("trace_count: is not counted over several workers; leave it at -1, or give --workers 1")
        settings: dict[str, Any] = await self.change("trace", changes, model)
        return settings

    async def log_settings(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The log settings, after these changes."""
        settings: dict[str, Any] = await self.change("log", changes)
        return settings

    async def change(self, what: str, *values: Any) -> Any:
        """Change a setting in every worker, or in none: trace, log, register, unregister; what that gives."""
        return await self.crew.lead("change", what, *values)

    async def _change(self, what: str, *values: Any) -> Any:
        async with self.changing:
            answer = await self._apply(what, *values)
            try:
                await self.crew.others("apply", what, *values)
            except DownstreamError:
                if what == "register":
                    await self._apply("unregister", values[0])
                    await self.crew.others("apply", "unregister", values[0])
                raise
            return answer

    async def _apply(self, what: str, *values: Any) -> Any:
        inference = self.inference
        changes: dict[str, Callable[..., Any]] = {
            "trace": inference.tracing.update,
            "log": inference.logging.update,
            "register": inference.regions.register,
            "unregister": inference.regions.unregister,
        }
        return changes[what](*values)

    def settled(self) -> tuple[Any, ...]:
        """What clients have set, for a worker that starts."""
        inference = self.inference
        return inference.tracing.state(), inference.logging.settings(), inference.regions.status()

    async def _settle(self, settled: tuple[Any, ...]) -> None:
        tracing, logging, regions = settled
        self.inference.tracing.adopt(tracing)
        if logging != self.inference.logging.settings():
            self.inference.logging.update({name: value for name, value in logging.items() if name != "log_file"})
        self.inference.regions.unregister()
        for region in regions:
            self.inference.regions.register(region["name"], region["key"], region["offset"], region["byte_size"])

    async def load(self, model: str, parameters: Mapping[str, Any]) -> None:
        """Load or reload a model, with the configuration and the files of the request if it brings some."""
        self._check_control("load")
        await self.crew.lead("load", model, override_of(parameters))

    async def unload(self, model: str) -> None:
        """Stop serving a model, once the requests in flight are answered."""
        self._check_control("unload")
        await self.crew.lead("unload", model)

    async def _load(self, model: str, override: Override) -> None:
        async with self._loading:
            await asyncio.to_thread(self.repository.load, model, override)

    async def _unload(self, model: str) -> None:
        async with self._loading:
            await asyncio.to_thread(self.repository.unload, model)

    def _check_control(self, action: str) -> None:
        if not self._explicit:
            raise NotReady(
                "explicit model load / unload is not allowed; start the server with --model-control explicit "
                f"to {action} models"
            )


def override_of(parameters: Mapping[str, Any]) -> Override:
    """The override of a load request: ``config`` as JSON text, and ``file:PATH`` as bytes or base64 text.

    Raises InvalidInput.
    """
    files: dict[str, bytes] = {}
    config = parameters.get("config", "")
    for name, value in parameters.items():
        if name.startswith(PREFIX):
            files[name.removeprefix(PREFIX)] = _content(name, value)
        elif name != "config":
            raise InvalidInput(
                f"unrecognized load parameter, got {shown(name)}; the parameters are config and {PREFIX}PATH"
            )
    if not isinstance(config, str):
        raise InvalidInput(f"parameter 'config' must be the model configuration as JSON text, got {shown(config)}")
    return Override(config, files)


def _content(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidInput(f"parameter '{name}' must be the file in base64, got {shown(value)}") from None
