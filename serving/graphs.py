"""The graphs of a bundle, opened so that they compute on this processor what they did where they were exported."""

from __future__ import annotations

import logging

from serving import processor
from serving.backends import Backend, open_backend, remedy, triton
from serving.bundle import Bundle
from serving.manifest import Manifest
from serving.settings import Settings

log = logging.getLogger(__name__)


def opened(bundle: Bundle, settings: Settings) -> Backend:
    """The backend of a bundle's graphs: that of the manifest, or the server that runs them elsewhere.

    Raises BundleError, also where a need of the manifest is not met here and the backend cannot do without, and
    NotReady while a remote server is away.
    """
    manifest = bundle.manifest
    if settings.triton_graphs:
        remote = triton.parse_address(settings.triton_graphs, manifest.name, manifest.version)
        return triton.connected(dict.fromkeys(manifest.graphs, remote))
    for line in remedies(manifest, settings):
        log.warning("model %s version %d: %s", manifest.name, manifest.version, line)
    return open_backend(manifest.backend, bundle.graph_files(), processor.read().lacking(manifest.needs))


def remedies(manifest: Manifest, settings: Settings) -> list[str]:
    """What is done about each instruction set that the graphs need and this processor lacks, in words.

    Raises BundleError where nothing can be done.
    """
    if settings.triton_graphs:
        return []  # they run on a processor that is not known here; the golden rows tell
    lacking = processor.read().lacking(manifest.needs)
    return [f"{processor.lacked(need)}: {remedy(manifest.backend, need).words}" for need in lacking]
