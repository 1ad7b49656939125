"""Whether a version is what was exported: its digests and signature, its gates, its place, and its answers here."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bundles.parts import size
from bundles.place import label
from serving import graphs, model_config, signature
from serving.bundle import Bundle, read_bundle
from serving.columns import Schema
from serving.errors import BundleError, DownstreamError
from serving.manifest import Manifest
from serving.model import Model
from serving.proof import replay_golden
from serving.settings import Settings


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what came of it."""

    name: str
    passed: bool
    message: str


def verify(folder: Path, key: Path | None = None) -> Iterator[Check]:
    """The checks of a version directory, one after another as they are made; ``key`` has a signature required.

    After damaged files, or without the signature that is required, nothing else is looked at: what nobody vouches for
    is not run.
    """
    try:
        bundle = read_bundle(folder)
    except DownstreamError as error:
        yield Check("digests", False, _relative(folder, error))
        return
    manifest = bundle.manifest
    yield Check("digests", True, f"{len(manifest.files)} files, {size(manifest, folder)}, {manifest.digest}")
    if key is not None:
        signed = _made(folder, "signature", lambda: _signature(folder, key))
        yield signed
        if not signed.passed:
            return
    yield from _gates(manifest)
    yield _made(folder, "place", lambda: _place(bundle))
    if not manifest.failed_gates:
        # In quarantine there is none, so that no server takes it for a model.
        yield _made(folder, "configuration", lambda: _configuration(bundle))
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


def _gates(manifest: Manifest) -> Iterator[Check]:
    """A check that fails for every gate that keeps a version in quarantine; one that passes where none does."""
    for gate in manifest.failed_gates:
        yield Check(f"gate {gate.get('gate')}", False, f"{gate.get('message')}; nobody accepted that: in quarantine")
    if not manifest.failed_gates:
        lacking = [gate for gate in manifest.gates if gate.get("passed") is not True]
        accepted = [f"{gate.get('gate')} is accepted: {gate.get('accepted')}" for gate in lacking]
        passed = f"{len(manifest.gates) - len(lacking)} passed"
        yield Check("gates", True, "; ".join([passed, *accepted]))


def _place(bundle: Bundle) -> str:
    told = f"{bundle.manifest.name}/{bundle.manifest.version}"
    if told != label(bundle.folder):
        raise BundleError(f"the manifest says {told}: the folder was renamed; give it that name, or export again")
    return told


def _configuration(bundle: Bundle) -> str:
    config = model_config.read(bundle.folder.parent)
    if not model_config.is_ours(config):
        raise BundleError(f"{model_config.FILE}: is for another Triton backend, {config.backend or config.platform!r}")
    model_config.check(config, Schema.of(bundle.open_task(), bundle.manifest.name, config.max_batch_size))
    return f"{model_config.FILE} declares what the model takes and gives"


def _signature(folder: Path, key: Path) -> str:
    signature.verify(folder, key)
    return f"made with {key}"


def _golden(bundle: Bundle) -> str:
    manifest = bundle.manifest
    begun = time.perf_counter()
    with closing(graphs.opened(bundle, Settings())) as backend:
        replay_golden(Model(manifest.name, bundle.open_task(), backend, manifest.max_batch_size), bundle)
    seconds = time.perf_counter() - begun
    many = len(bundle.golden())
    return f"{many} reproduced by {manifest.backend} on this host ({platform.machine()}) in {seconds:.1f} s"
