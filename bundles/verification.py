"""Whether a version is what was exported: its digests, its configuration, its signature, and its answers here."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

from bundles.archive import SIGNATURES
from bundles.place import label
from bundles.record import record, size
from serving import model_config
from serving.backends import open_backend
from serving.bundle import MANIFEST, Bundle, open_bundle
from serving.columns import Schema
from serving.errors import BundleError, DownstreamError
from serving.model import Model
from serving.proof import replay_golden


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what came of it."""

    name: str
    passed: bool
    message: str


def verify(folder: Path, key: Path | None = None) -> Iterator[Check]:
    """The checks of a version directory, one after another as they are made; ``key`` has a signature required.

    After damaged files nothing else is looked at, since nothing of them can be trusted.
    """
    try:
        bundle = open_bundle(folder)
    except DownstreamError as error:
        yield Check("digests", False, _relative(folder, error))
        return
    proof = record(bundle.manifest).digest
    yield Check("digests", True, f"{len(bundle.manifest.files)} files, {size(bundle.manifest, folder)}, {proof}")
    yield _made(folder, "place", lambda: _place(bundle))
    yield _made(folder, "extras", lambda: _extras(bundle))
    yield _made(folder, "configuration", lambda: _configuration(bundle))
    if key is not None:
        yield _made(folder, "signature", lambda: _signature(folder, key))
    yield _made(folder, "golden rows", lambda: _golden(bundle))


def require(folder: Path, key: Path | None = None) -> None:
    """Raise BundleError that names every check which a version directory fails."""
    failed = [f"{check.name}: {check.message}" for check in verify(folder, key) if not check.passed]
    if failed:
        raise BundleError(f"{label(folder)}: {'; '.join(failed)}")


def _made(folder: Path, name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except DownstreamError as error:
        return Check(name, False, _relative(folder, error))
    except Exception as error:
        # What is in the files decides what is raised: a graph that is none, a golden row without its answer.
        return Check(name, False, f"cannot be checked here ({type(error).__name__}: {error})")


def _relative(folder: Path, error: Exception) -> str:
    """A message about files of a version directory, without the way to it."""
    return str(error).replace(f"{folder}: ", "").replace(f"{folder}/", "").replace(f"{folder.parent}/", "")


def _place(bundle: Bundle) -> str:
    told = f"{bundle.manifest.name}/{bundle.manifest.version}"
    if told != label(bundle.folder):
        raise BundleError(f"the manifest says {told}: the folder was renamed; give it that name, or export again")
    return told


def _extras(bundle: Bundle) -> str:
    """Raise BundleError where there is a file that the manifest does not know."""
    found = {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if not path.is_dir()}
    added = sorted(
        name for name in found - {MANIFEST, *bundle.manifest.files} if "/" in name or not fnmatch(name, SIGNATURES)
    )
    if added:
        raise BundleError(f"{', '.join(added)}: without a digest, so it came after the export; remove it")
    return "every file has a digest"


def _configuration(bundle: Bundle) -> str:
    config = model_config.read(bundle.folder.parent)
    if not model_config.is_ours(config):
        raise BundleError(f"{model_config.FILE}: is for another Triton backend, {config.backend or config.platform!r}")
    model_config.check(config, Schema.of(bundle.open_task(), bundle.manifest.name, config.max_batch_size))
    return f"{model_config.FILE} declares what the model takes and gives"


def _signature(folder: Path, key: Path) -> str:
    # Only where it is asked for: it needs packages that nothing else here needs.
    import_module("serving.signature").verify(folder, key)
    return f"made with {key}"


def _golden(bundle: Bundle) -> str:
    manifest = bundle.manifest
    begun = time.perf_counter()
    with closing(open_backend(manifest.backend, bundle.graph_files())) as backend:
        replay_golden(Model(manifest.name, bundle.open_task(), backend, manifest.max_batch_size), bundle)
    seconds = time.perf_counter() - begun
    many = len(bundle.golden())
    return f"{many} reproduced by {manifest.backend} on this host ({platform.machine()}) in {seconds:.1f} s"
