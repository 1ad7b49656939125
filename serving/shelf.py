"""The versions that answer now, and what is told of them and of those that do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving import model_config
from serving.admission import Admission, State
from serving.engine import Engine
from serving.errors import NotFound, NotReady
from serving.index import UNLOADED, Entry, Index
from serving.metrics import Metrics


class Shelf:
    """Name to versions to Engine. Read by all, changed by one thread at a time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._engines: dict[str, dict[int, Engine]] = {}
        self._configs: dict[str, ModelConfig] = {}
        self._index = Index()
        # Empty where no other process serves the same.
        self.admitted: dict[Engine, Admission] = {}
        self.loaded = False

    def put(self, name: str, now: Mapping[int, Engine]) -> dict[int, Engine]:
        """Have these versions of a model answer, and no others; those that answered before, for ``retire``."""
        old = self._engines.get(name, {})
        # A model without a version that answers is not among the engines: readiness and metrics go by that.
        if now:
            self._engines[name] = dict(now)
        else:
            self._engines.pop(name, None)
        for version in old.keys() | now.keys():
            self._metrics.ready.labels(name, str(version)).set(version in now)
        for engine in old.values():
            self._metrics.forget(engine.bundle.manifest)
        for engine in now.values():
            self._metrics.describe(engine.bundle.manifest)
        return {version: engine for version, engine in old.items() if now.get(version) is not engine}

    def retire(self, engines: Mapping[int, Engine]) -> None:
        """Close engines that answer no new requests, once those that they have are answered."""
        for engine in engines.values():
            engine.close()
            self.admitted.pop(engine, None)

    def state(self, *, whole: bool = True) -> State:
        """What is told now; ``whole`` with the versions that answer."""
        if not whole:
            return State(self._index.entries(), self.loaded)
        serving = {
            name: {version: self.admitted[engine].ident for version, engine in versions.items()}
            for name, versions in self._engines.items()
        }
        configs = {name: config.SerializeToString() for name, config in self._configs.items()}
        return State(self._index.entries(), self.loaded, serving, configs)

    def adopt(self, state: State) -> None:
        """Tell and serve what another process does; versions that were opened for it and are not named are closed."""
        replaced: list[Mapping[int, Engine]] = []
        if state.serving is not None:
            known = {admission.ident: engine for engine, admission in self.admitted.items()}
            for name in self._engines.keys() | state.serving.keys():
                named = state.serving.get(name, {})
                replaced.append(self.put(name, {version: known[ident] for version, ident in named.items()}))
            self._configs = {name: ModelConfig.FromString(config) for name, config in state.configs.items()}
            serving = {engine for versions in self._engines.values() for engine in versions.values()}
            replaced += [{0: engine} for engine in known.values() if engine not in serving]
        self._index.replace(state.entries)
        self.loaded = state.loaded
        for engines in replaced:
            self.retire(engines)

    @contextmanager
    def lease(self, name: str, version: str = "") -> Iterator[Engine]:
        """``get``, with the promise that the engine answers until the request is over, whatever is loaded meanwhile."""
        engine = self.get(name, version)
        while not engine.enter():
            # It was replaced between the two steps; what replaced it is there already.
            engine = self.get(name, version)
        try:
            yield engine
        finally:
            engine.leave()

    def config(self, name: str, version: str = "") -> ModelConfig:
        """The configuration of a model as it is served, complete. Raises as ``get``."""
        engine = self.get(name, version)
        return model_config.completed(self._configs[name], engine.schema, engine.bundle.manifest.digest)

    def get(self, name: str, version: str = "") -> Engine:
        """The engine of a model; without a version, the latest. Raises NotFound, or NotReady with the reason."""
        versions = self._engines.get(name)
        if versions:
            if not version:
                return versions[max(versions)]
            if version in map(str, versions):
                return versions[int(version)]
        entries = self._index.entries(name)
        known = [entry for entry in entries if not version or str(entry.version) == version]
        if not version and known and all(entry.reason == UNLOADED for entry in known):
            raise NotFound(f"Request for unknown model: '{name}' has no available versions, it is unloaded")
        if known:
            newest = max(known, key=lambda entry: entry.version)
            raise NotReady(
                f"Request for model '{name}' version {newest.version} is not ready: {newest.reason or 'loading'}"
            )
        if version and entries:
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")
        raise NotFound(f"Request for unknown model: '{name}' is not found")

    def versions(self, name: str) -> list[int]:
        """The versions of a model that serve now."""
        return sorted(self._engines.get(name, {}))

    def engines(self) -> dict[str, dict[int, Engine]]:
        """All engines that serve now, by name and version."""
        return {name: dict(versions) for name, versions in list(self._engines.items())}

    def index(self) -> list[Entry]:
        """Every version that was ever tried since the start, in order."""
        return self._index.entries()

    @property
    def ready(self) -> bool:
        """Whether loading is over, and every model that was not unloaded on purpose has a version that answers."""
        wanted = {entry.name for entry in self._index.entries() if entry.reason != UNLOADED}
        return self.loaded and bool(self._engines) and wanted <= self._engines.keys()
