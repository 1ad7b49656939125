"""What both protocols tell of models and do to them: configuration, statistics, index, load and unload."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.errors import InvalidInput, NotReady, shown
from serving.gateway.v2 import Inference
from serving.overrides import PREFIX, Override
from serving.repository import Repository

# Of the statistics extension, what this server does not count; clients look for the keys.
UNCOUNTED: Mapping[str, Any] = {"response_stats": {}, "memory_usage": []}


class Management:
    """The management half of KServe v2, over the repository; ``explicit`` lets clients load and unload."""

    def __init__(self, inference: Inference, *, explicit: bool) -> None:
        self.inference, self._explicit = inference, explicit
        # One after the other here too: each that waits in a thread would take it from rows that are encoded there.
        self._changing = asyncio.Lock()

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

    def statistics(self, model: str = "", version: str = "") -> list[dict[str, Any]]:
        """Counts and times of a version, of all versions of a model, or of all models."""
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
        return [
            {"name": name, "version": str(number), **engine.statistics.snapshot(), **UNCOUNTED}
            for (name, number), engine in sorted(engines.items())
        ]

    def trace_settings(self, model: str = "", changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The trace settings, after these changes. Raises NotFound for a model that is not known."""
        if model:
            self.repository.get(model)
        tracing = self.inference.tracing
        return tracing.update(changes, model) if changes else tracing.settings(model)

    async def load(self, model: str, parameters: Mapping[str, Any]) -> None:
        """Load or reload a model, with the configuration and the files of the request if it brings some."""
        self._check_control("load")
        override = override_of(parameters)
        async with self._changing:
            await asyncio.to_thread(self.repository.load, model, override)

    async def unload(self, model: str) -> None:
        """Stop serving a model, once the requests in flight are answered."""
        self._check_control("unload")
        async with self._changing:
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
