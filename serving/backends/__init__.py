"""What runs graphs: one file each, found by the name that the manifest gives."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from serving.errors import BundleError, NotFound
from serving.processor import lacked
from serving.tensors import Array, Tensors


class Backend(Protocol):
    """Loaded graphs of one bundle; ``run`` is called from several threads at once."""

    def run(self, graph: str, batch: Tensors, timeout: float | None = None) -> Mapping[str, Array]:
        """The outputs of one graph, by name; arrays have a leading batch axis.

        After ``timeout`` seconds nobody waits for them any more: a backend that can stop then should.
        """

    def close(self) -> None:
        """Release the graphs."""


def names() -> list[str]:
    """The names of all backends, as a manifest spells them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@dataclass(frozen=True)
class Remedy:
    """What a backend does about an instruction set that graphs need and the processor lacks.

    ``options`` are for its ``open_graphs``; ``words`` say what comes of that. A backend has its own by need, as
    ``REMEDIES``.
    """

    options: Mapping[str, Any]
    words: str


def open_backend(name: str, graphs: Mapping[str, Path], lacking: Sequence[str] = ()) -> Backend:
    """Load graphs with the backend of that name, so that they compute right without the instruction sets ``lacking``.

    Raises NotFound that lists the known names, or BundleError, also where the backend has no remedy.
    """
    options: dict[str, Any] = {}
    for need in lacking:
        options |= remedy(name, need).options
    backend: Backend = _module(name).open_graphs(graphs, **options)
    return backend


def remedy(name: str, need: str) -> Remedy:
    """What the backend of that name does without an instruction set. Raises NotFound, and BundleError for nothing."""
    found: Remedy | None = getattr(_module(name), "REMEDIES", {}).get(need)
    if found is None:
        raise BundleError(
            f"{lacked(need)}, and the backend {name} has no setting that helps; export the model on this machine, or "
            "serve it on one like that of its export"
        )
    return found


def _module(name: str) -> Any:
    if name not in names():
        raise NotFound(f"backend: unknown backend, got {name!r}; the backends are {', '.join(names())}")
    return import_module(f"{__name__}.{name}")
