"""Name to versions to Engine: load, swap, unload, and the index that says why something does not serve."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving import model_config
from serving.bundle import open_bundle
from serving.engine import Engine
from serving.errors import BundleError, DownstreamError, NotFound, NotReady
from serving.metrics import Metrics
from serving.settings import Settings

log = logging.getLogger(__name__)

# In the index, a model whose configuration cannot be read has no versions yet.
NO_VERSION = 0
UNLOADED = "unloaded"


@dataclass(frozen=True)
class Entry:
    """One version in the index; ``state`` is READY, LOADING or UNAVAILABLE, ``reason`` says why not READY."""

    name: str
    version: int
    state: str
    reason: str = ""


class Repository:
    """The models of one directory. Loading is beside what serves: a version that fails takes nothing down."""

    def __init__(self, folder: Path, settings: Settings, metrics: Metrics) -> None:
        self.folder, self._settings, self._metrics = folder, settings, metrics
        self._engines: dict[str, dict[int, Engine]] = {}
        self._index: dict[tuple[str, int], Entry] = {}
        self._loading = threading.Lock()
        self.loaded = self.stopping = False

    def load_all(self) -> None:
        """Load every model of the directory, one after the other; failures are noted, not raised."""
        folders = [path.parent for path in self.folder.glob(f"*/{model_config.FILE}")]
        names = sorted(folder.name for folder in folders if self._is_bundle(folder))
        for name in names:
            # At once, so that a model whose turn has not come yet is "loading" and not "unknown".
            self._note(Entry(name, NO_VERSION, "LOADING"))
        for name in names:
            if self.stopping:
                return
            try:
                self.load(name)
            except DownstreamError as error:
                log.error("model %s: %s", name, error)
            except Exception as error:
                log.exception("model %s cannot be loaded", name)
                self._note(Entry(name, NO_VERSION, "UNAVAILABLE", f"{type(error).__name__}: {error}"))
        self.loaded = True

    def load(self, name: str) -> None:
        """Load or reload one model: new versions prove themselves beside the old ones, then take over.

        Raises NotFound or BundleError; what served before goes on then.
        """
        with self._loading:
            folder = self.folder / name
            if name in ("", "..") or Path(name).name != name or not folder.is_dir():
                raise NotFound(f"failed to load '{name}', no such directory in {self.folder}")
            config = self._read_config(folder)
            for ignored in model_config.not_honoured(config):
                log.warning("model %s: %s of %s is not honoured here", name, ignored, model_config.FILE)
            available = [int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
            allowed, count = model_config.candidates(config, available)
            if not allowed:
                reason = f"{folder}: no version to serve; the version directories are {sorted(available)}"
                self._note(Entry(name, NO_VERSION, "UNAVAILABLE", reason))
                raise BundleError(reason)
            self._index.pop((name, NO_VERSION), None)
            settings = dataclasses.replace(
                self._settings, capacity=model_config.queue_capacity(config) or self._settings.capacity
            )
            fresh: dict[int, Engine] = {}
            failures: list[str] = []
            for version in allowed:
                if len(fresh) == count:
                    break
                # A version that does not prove itself leaves its place to the one before it.
                try:
                    fresh[version] = self._load_version(name, version, config.max_batch_size, settings)
                except DownstreamError as error:
                    failures.append(f"version {version}: {error}")
            self._swap(name, fresh, keep_old=bool(failures))
            if failures:
                raise BundleError("; ".join(failures))

    def _is_bundle(self, folder: Path) -> bool:
        """Whether a model is for this gateway; one that cannot be read is, so that somebody hears of it."""
        try:
            config = model_config.parse(folder)
        except BundleError:
            return True
        # The older way to name a backend.
        backend = config.backend or config.platform
        if backend in ("", model_config.BACKEND):
            return True
        log.info("model %s is for Triton's backend %s and is left to it", folder.name, backend)
        return False

    def _read_config(self, folder: Path) -> ModelConfig:
        try:
            return model_config.read(folder)
        except BundleError as error:
            self._note(Entry(folder.name, NO_VERSION, "UNAVAILABLE", str(error)))
            raise

    def _load_version(self, name: str, version: int, max_batch_size: int, settings: Settings) -> Engine:
        self._note(Entry(name, version, "LOADING"))
        begun = time.perf_counter()
        try:
            bundle = open_bundle(self.folder / name / str(version))
            # The directory decides: a version may have been copied or renamed.
            manifest = dataclasses.replace(bundle.manifest, name=name, version=version, max_batch_size=max_batch_size)
            engine = Engine.load(
                dataclasses.replace(bundle, manifest=manifest),
                settings,
                lambda batch: self._metrics.observe(name, batch),
            )
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
        self._note(
            Entry(name, version, state, f"the files on disk are quarantined: {error}" if serving else str(error))
        )

    def _swap(self, name: str, fresh: dict[int, Engine], *, keep_old: bool) -> None:
        old = self._engines.get(name, {})
        now = {**old, **fresh} if keep_old else fresh
        # A model without a version that answers is not among the engines: readiness and metrics go by that.
        if now:
            self._engines[name] = now
        else:
            self._engines.pop(name, None)
        for version in fresh:
            self._note(Entry(name, version, "READY"))
            self._metrics.ready.labels(name, str(version)).set(1)
        for version, engine in old.items():
            if now.get(version) is not engine:
                if version not in fresh:
                    self._note(Entry(name, version, "UNAVAILABLE", UNLOADED))
                    self._metrics.ready.labels(name, str(version)).set(0)
                engine.close()

    def unload(self, name: str) -> None:
        """Stop serving a model; rows in flight are answered first. Raises NotFound."""
        with self._loading:
            if name not in self._engines:
                raise NotFound(f"Request for unknown model: '{name}' is not found")
            self._swap(name, {}, keep_old=False)

    def close(self) -> None:
        """Unload everything."""
        for name in list(self._engines):
            self.unload(name)

    def get(self, name: str, version: str = "") -> Engine:
        """The engine of a model; without a version, the latest. Raises NotFound, or NotReady with the reason."""
        versions = self._engines.get(name)
        if versions:
            if not version:
                return versions[max(versions)]
            if version in map(str, versions):
                return versions[int(version)]
        index = list(self._index.values())
        known = [e for e in index if e.name == name and (not version or str(e.version) == version)]
        if known:
            newest = max(known, key=lambda entry: entry.version)
            raise NotReady(
                f"Request for model '{name}' version {newest.version} is not ready: {newest.reason or 'loading'}"
            )
        if version and any(entry.name == name for entry in index):
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
        # One step, since the thread that loads changes the dictionary.
        return [entry for _, entry in sorted(self._index.copy().items())]

    @property
    def ready(self) -> bool:
        """Whether loading is over, and every model that was not unloaded on purpose has a version that answers."""
        wanted = {entry.name for entry in list(self._index.values()) if entry.reason != UNLOADED}
        return self.loaded and bool(self._engines) and wanted <= self._engines.keys()

    def _note(self, entry: Entry) -> None:
        self._index[entry.name, entry.version] = entry
