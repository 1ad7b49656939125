"""Name to versions to Engine: load, swap, unload, and the index that says why something does not serve."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving import model_config, model_policy, warm_up
from serving.bundle import open_bundle
from serving.engine import Engine
from serving.errors import BundleError, DownstreamError, NotFound, NotReady, Unsupported
from serving.index import NO_VERSION, UNLOADED, Entry, Index
from serving.metrics import Metrics
from serving.model import Model
from serving.model_policy import Policy
from serving.overrides import Override
from serving.settings import Settings

log = logging.getLogger(__name__)

# Seconds between two tries of a model whose graph a remote server runs that is away.
RETRY = 2.0
STORED = Override()


class Repository:
    """The models of one directory. Loading is beside what serves: a version that fails takes nothing down."""

    def __init__(self, folder: Path, settings: Settings, metrics: Metrics) -> None:
        self.folder, self._settings, self._metrics = folder, settings, metrics
        self._engines: dict[str, dict[int, Engine]] = {}
        self._configs: dict[str, ModelConfig] = {}
        self._index = Index()
        self._loading = threading.Lock()
        self._stop = threading.Event()
        self.loaded = False

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Load nothing more."""
        self._stop.set()

    def load_all(self) -> None:
        """Load every model of the directory, one after the other; failures are noted, not raised."""
        names = sorted(path.parent.name for path in self.folder.glob(f"*/{model_config.FILE}"))
        for name in names:
            # At once, so that a model whose turn has not come yet is "loading" and not "unknown".
            self._index.note(name, NO_VERSION, "LOADING")
        away = [name for name in names if self._tried(name)]
        self.loaded = True
        while away and not self._stop.wait(RETRY):
            # Meanwhile a client may have loaded or unloaded one.
            away = [name for name in away if self._index.awaited(name) and self._tried(name)]

    def _tried(self, name: str) -> bool:
        """Whether a model is to be tried again, because what it depends on is away."""
        if self.stopping:
            return False
        try:
            self.load(name)
        except Unsupported as error:
            log.info("%s", error)
            self._index.drop_model(name)
        except NotReady as error:
            log.warning("model %s: %s; trying again", name, error)
            return True
        except DownstreamError as error:
            log.error("model %s: %s", name, error)
        except Exception as error:
            log.exception("model %s cannot be loaded", name)
            self._index.note(name, NO_VERSION, "UNAVAILABLE", f"{type(error).__name__}: {error}")
        return False

    def load(self, name: str, override: Override = STORED) -> None:
        """Load or reload one model: new versions prove themselves beside the old ones, then take over.

        Raises NotFound, BundleError, NotReady while a remote graph is away, and Unsupported for a model that another
        backend runs; what served before goes on then.
        """
        unknown = NotFound(f"failed to load '{name}', failed to poll from model repository: no such directory")
        # Before anything is written under that name.
        if name in ("", "..") or Path(name).name != name or "\0" in name:
            raise unknown
        with self._loading, override.folder(name, self.folder / name) as folder:
            if not os.path.isdir(folder):
                raise unknown
            config = self._read_config(folder, override.config)
            if not model_config.is_ours(config):
                backend = config.backend or config.platform
                raise Unsupported(f"model '{name}' is for Triton's backend '{backend}' and is not served here")
            available = [int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
            allowed, count = model_config.candidates(config, available)
            if not allowed:
                reason = f"{folder}: no version to serve; the version directories are {sorted(available)}"
                self._index.note(name, NO_VERSION, "UNAVAILABLE", reason)
                raise BundleError(reason)
            self._load_versions(folder, config, allowed, count)

    def _load_versions(self, folder: Path, config: ModelConfig, allowed: Sequence[int], count: int) -> None:
        name = folder.name
        policy = self._policy(name, config)
        for ignored in policy.ignored:
            log.warning("model %s: %s of %s is not honoured here", name, ignored, model_config.FILE)
        self._index.drop_model(name)
        fresh: dict[int, Engine] = {}
        failures: dict[int, DownstreamError] = {}
        for version in allowed:
            if len(fresh) == count:
                break
            # A version that does not prove itself leaves its place to the one before it.
            try:
                fresh[version] = self._load_version(folder, version, config, policy)
            except DownstreamError as error:
                failures[version] = error
        if fresh:
            self._configs[name] = config
        self._swap(name, fresh, keep_old=bool(failures))
        if failures:
            told = "; ".join(f"version {version}: {error}" for version, error in failures.items())
            raise (NotReady if all(isinstance(e, NotReady) for e in failures.values()) else BundleError)(told)

    def _read_config(self, folder: Path, override: str) -> ModelConfig:
        try:
            return model_config.from_json(folder.name, override) if override else model_config.read(folder)
        except BundleError as error:
            self._index.note(folder.name, NO_VERSION, "UNAVAILABLE", str(error))
            raise

    def _policy(self, name: str, config: ModelConfig) -> Policy:
        try:
            return model_policy.policy(config, self._settings)
        except BundleError as error:
            self._index.note(name, NO_VERSION, "UNAVAILABLE", str(error))
            raise

    def _load_version(self, folder: Path, version: int, config: ModelConfig, policy: Policy) -> Engine:
        name = folder.name
        self._index.note(name, version, "LOADING")
        begun = time.perf_counter()
        try:
            bundle = open_bundle(folder / str(version))
            # The directory decides: a version may have been copied or renamed.
            manifest = dataclasses.replace(
                bundle.manifest, name=name, version=version, max_batch_size=config.max_batch_size
            )
            engine = Engine.load(
                dataclasses.replace(bundle, manifest=manifest),
                policy.settings,
                lambda batch: self._metrics.observe(name, batch),
                policy.limits,
                policy.cache_bytes,
                lambda model: _prepared(model, config, folder),
            )
        except NotReady as error:
            serving = version in self._engines.get(name, {})
            self._index.note(name, version, "READY" if serving else "LOADING", str(error))
            raise
        except Exception as error:
            self._quarantine(name, version, error)
            if isinstance(error, DownstreamError):
                raise
            raise BundleError(f"{type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - begun
        self._metrics.load_seconds.labels(name, str(version)).set(seconds)
        log.info("model %s version %d proved itself and is ready after %.2f s", name, version, seconds)
        return engine

    def _quarantine(self, name: str, version: int, error: Exception) -> None:
        """The version does not serve; a version of that number that served before goes on."""
        log.error("model %s version %d is quarantined: %s", name, version, error)
        self._metrics.quarantined.labels(name, str(version)).inc()
        serving = version in self._engines.get(name, {})
        state = "READY" if serving else "UNAVAILABLE"
        self._index.note(name, version, state, f"the files on disk are quarantined: {error}" if serving else str(error))

    def _swap(self, name: str, fresh: dict[int, Engine], *, keep_old: bool) -> None:
        old = self._engines.get(name, {})
        now = {**old, **fresh} if keep_old else fresh
        # A model without a version that answers is not among the engines: readiness and metrics go by that.
        if now:
            self._engines[name] = now
        else:
            self._engines.pop(name, None)
        for version in fresh:
            self._index.note(name, version, "READY")
            self._metrics.ready.labels(name, str(version)).set(1)
        for version, engine in old.items():
            if now.get(version) is not engine:
                if version not in fresh:
                    self._index.note(name, version, "UNAVAILABLE", UNLOADED)
                    self._metrics.ready.labels(name, str(version)).set(0)
                engine.close()

    def unload(self, name: str) -> None:
        """Stop serving a model, if it serves; rows in flight are answered first. Raises NotFound for an unknown one."""
        with self._loading:
            if name not in self._engines and not self._index.entries(name):
                raise NotFound(f"Request for unknown model: '{name}' is not found")
            self._swap(name, {}, keep_old=False)
            for entry in self._index.awaited(name):
                self._index.note(name, entry.version, "UNAVAILABLE", UNLOADED)

    def close(self) -> None:
        """Unload everything."""
        for name in list(self._engines):
            self.unload(name)

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
        schema = self.get(name, version).schema
        return model_config.completed(self._configs[name], schema)

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


def _prepared(model: Model, config: ModelConfig, folder: Path) -> None:
    """Hold a model against its configuration and warm it up as that asks. Raises BundleError."""
    model_config.check(config, model.schema)
    for sample in config.model_warmup:
        rows = [model.encode(model.check(row)) for row in warm_up.rows(sample, model.schema, folder)]
        for _ in range(max(1, sample.count) if rows else 0):
            model.run(rows)
