"""What runs graphs: one file each, found by the name that the manifest gives."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from serving.errors import NotFound
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


def open_backend(name: str, graphs: Mapping[str, Path]) -> Backend:
    """Load graphs with the backend of that name. Raises NotFound that lists the known names, or BundleError."""
    if name not in names():
        raise NotFound(f"backend: unknown backend, got {name!r}; the backends are {', '.join(names())}")
    backend: Backend = import_module(f"{__name__}.{name}").open_graphs(graphs)
    return backend
