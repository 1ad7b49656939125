"""The models of a directory: load, swap, unload, and the index that says why something does not serve."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving import model_config, model_policy
from serving.admission import Admission, Followers, Nobody, bundle_of, opened
from serving.engine import Engine
from serving.errors import BundleError, DownstreamError, NotFound, NotReady, Unsupported
from serving.index import NO_VERSION, UNLOADED
from serving.metrics import Metrics
from serving.model_policy import Policy
from serving.overrides import Override
from serving.settings import Settings
from serving.shelf import Shelf

log = logging.getLogger(__name__)

# Seconds between two tries of a model whose graph a remote server runs that is away.
RETRY = 2.0
STORED = Override()


class Repository(Shelf):
    """The models of one directory. Loading is beside what serves: a version that fails takes nothing down.

    What it admits, ``followers`` serve too, and before a change returns.
    """

    def __init__(self, folder: Path, settings: Settings, metrics: Metrics) -> None:
        super().__init__(metrics)
        self.folder, self._settings = folder, settings
        self.followers: Followers = Nobody()
        self._loading = threading.Lock()
        self._telling = threading.Lock()
        self._stop = threading.Event()

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
        self._publish()
        away = [name for name in names if self._tried(name)]
        self.loaded = True
        self._publish()
        while away and not self._stop.wait(RETRY):
            # Meanwhile a client may have loaded or unloaded one.
            away = [name for name in away if self._index.awaited(name) and self._tried(name)]

    def _publish(self, *, whole: bool = False) -> None:
        if self._settings.workers > 1:
            # Two threads may have something to tell; the last one to tell it knows the most.
            with self._telling:
                self.followers.follow(self.state(whole=whole))

    def _tried(self, name: str) -> bool:
        """Whether a model is to be tried again, because what it depends on is away."""
        if self.stopping:
            return False
        try:
            return self._away(name)
        finally:
            self._publish()

    def _away(self, name: str) -> bool:
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
            try:
                self._load(folder, override)
            finally:
                self._publish()

    def _load(self, folder: Path, override: Override) -> None:
        name = folder.name
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
        self._load_versions(folder, config, override, allowed, count)

    def _load_versions(
        self, folder: Path, config: ModelConfig, override: Override, allowed: Sequence[int], count: int
    ) -> None:
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
                fresh[version] = self._load_version(folder, version, config, policy, override)
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

    def _load_version(
        self, folder: Path, version: int, config: ModelConfig, policy: Policy, override: Override
    ) -> Engine:
        name = folder.name
        self._index.note(name, version, "LOADING")
        self._publish()
        begun = time.perf_counter()
        try:
            bundle = bundle_of(folder, version, config, self._settings.require_signature)
            engine = opened(bundle, config, policy, self._metrics)
            self._admit(engine, config, override)
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

    def _admit(self, engine: Engine, config: ModelConfig, override: Override) -> None:
        """Have the followers open what proved itself here. Raises what the first of them raises that cannot."""
        if self._settings.workers == 1:
            return
        admission = Admission(engine.bundle.manifest, config.SerializeToString(), override, engine.cost)
        try:
            self.followers.stage(admission)
        except Exception:
            engine.close()
            raise
        self.admitted[engine] = admission

    def _quarantine(self, name: str, version: int, error: Exception) -> None:
        """The version does not serve; a version of that number that served before goes on."""
        log.error("model %s version %d is quarantined: %s", name, version, error)
        self._metrics.quarantined.labels(name, str(version)).inc()
        serving = version in self._engines.get(name, {})
        state = "READY" if serving else "UNAVAILABLE"
        self._index.note(name, version, state, f"the files on disk are quarantined: {error}" if serving else str(error))

    def _swap(self, name: str, fresh: dict[int, Engine], *, keep_old: bool) -> None:
        old = self._engines.get(name, {})
        replaced = self.put(name, {**old, **fresh} if keep_old else fresh)
        for version in fresh:
            self._index.note(name, version, "READY")
        for version in replaced.keys() - fresh.keys():
            self._index.note(name, version, "UNAVAILABLE", UNLOADED)
        self._publish(whole=True)
        self.retire(replaced)

    def unload(self, name: str) -> None:
        """Stop serving a model, if it serves; rows in flight are answered first. Raises NotFound for an unknown one."""
        with self._loading:
            if name not in self._engines and not self._index.entries(name):
                raise NotFound(f"Request for unknown model: '{name}' is not found")
            self._swap(name, {}, keep_old=False)
            for entry in self._index.awaited(name):
                self._index.note(name, entry.version, "UNAVAILABLE", UNLOADED)
            self._publish()

    def close(self) -> None:
        """Unload everything here; those that follow end by themselves."""
        self.followers = Nobody()
        for name in list(self._engines):
            self.unload(name)

    def introduce(self, newcomer: Followers, welcome: Callable[[], None]) -> None:
        """Bring a process that has just started to where this one is, then ``welcome`` it; nothing changes meanwhile.

        Raises BundleError or NotReady where it cannot open what is served here.
        """
        with self._loading:
            for admission in list(self.admitted.values()):
                newcomer.stage(admission)
            newcomer.follow(self.state())
            welcome()

    def open_admitted(self, admission: Admission) -> Engine:
        """The engine of a version that another process admitted. Raises BundleError and NotReady."""
        manifest, config = admission.manifest, ModelConfig.FromString(admission.config)
        begun = time.perf_counter()
        with admission.override.folder(manifest.name, self.folder / manifest.name) as folder:
            bundle = bundle_of(folder, manifest.version, config, self._settings.require_signature)
            policy = model_policy.policy(config, self._settings)
            engine = opened(bundle, config, policy, self._metrics, admission)
        self._metrics.load_seconds.labels(manifest.name, str(manifest.version)).set(time.perf_counter() - begun)
        return engine
