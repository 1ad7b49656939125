"""A version is admitted once: what one process found when it proved it, for the others that are to serve it too."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving import model_config, signature, warm_up
from serving.bundle import Bundle, open_bundle
from serving.cost import CostModel
from serving.engine import Engine
from serving.errors import BundleError
from serving.index import Entry
from serving.manifest import Manifest
from serving.metrics import Metrics
from serving.model import Model
from serving.model_policy import Policy
from serving.overrides import Override


@dataclass(frozen=True)
class Admission:
    """A version that has proved itself: from which files, and what its runs cost; ``config`` is serialized."""

    manifest: Manifest
    config: bytes
    override: Override
    cost: CostModel
    ident: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class State:
    """What a repository tells.

    ``serving`` is the admissions by model and version, None where they did not change; ``configs`` are serialized.
    """

    entries: Sequence[Entry]
    loaded: bool
    serving: Mapping[str, Mapping[int, str]] | None = None
    configs: Mapping[str, bytes] = field(default_factory=dict)


class Followers(Protocol):
    """Processes that serve what this one admits."""

    def stage(self, admission: Admission) -> None:
        """Open a version beside what serves. Raises BundleError or NotReady where one of them cannot."""

    def follow(self, state: State) -> None:
        """Tell and serve the same as this process from now on."""


class Nobody:
    """No other process follows."""

    def stage(self, admission: Admission) -> None:
        """Nothing is to be done."""

    def follow(self, state: State) -> None:
        """Nothing is to be done."""


def bundle_of(folder: Path, version: int, config: ModelConfig, key: str = "") -> Bundle:
    """A version of a model directory, checked, also against the public key in a file; named after its place.

    Raises BundleError.
    """
    if key:
        signature.verify(folder / str(version), Path(key))
    bundle = open_bundle(folder / str(version))
    # The directory decides: a version may have been copied or renamed.
    manifest = dataclasses.replace(
        bundle.manifest, name=folder.name, version=version, max_batch_size=config.max_batch_size
    )
    return dataclasses.replace(bundle, manifest=manifest)


def opened(
    bundle: Bundle, config: ModelConfig, policy: Policy, metrics: Metrics, admission: Admission | None = None
) -> Engine:
    """The engine of a checked version, which proves itself unless it was admitted. Raises BundleError and NotReady."""
    name, folder = bundle.manifest.name, bundle.folder.parent
    if admission and admission.manifest != bundle.manifest:
        raise BundleError(
            f"{bundle.folder}: is not what was verified, it was changed since; put it back or load '{name}' again"
        )
    return Engine.load(
        bundle,
        policy.settings,
        lambda batch: metrics.observe(name, batch),
        policy.limits,
        policy.cache_bytes,
        lambda model: _prepared(model, config, folder),
        admission.cost if admission else None,
    )


def _prepared(model: Model, config: ModelConfig, folder: Path) -> None:
    """Hold a model against its configuration and warm it up as that asks. Raises BundleError."""
    model_config.check(config, model.schema)
    for sample in config.model_warmup:
        rows = [model.encode(model.check(row)) for row in warm_up.rows(sample, model.schema, folder)]
        for _ in range(max(1, sample.count) if rows else 0):
            model.run(rows)
