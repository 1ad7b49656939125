"""Fixtures that several modules share: repositories in this process, and one real server for the wires."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from serving.gateway.app import build_app
from serving.gateway.management import Management
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import LABELS, write_bundle
from tests.serving.held_backend import HeldBackend
from tests.serving.server_process import ServerProcess, running
from tests.serving.wires import WIRES, Wire


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What a test changes of logging, as clients may, is put back."""
    logger, handlers = logging.getLogger("serving"), list(logging.getLogger().handlers)
    level, before = logger.level, [(handler, handler.filters[:], handler.formatter) for handler in handlers]
    yield
    logger.setLevel(level)
    for handler, filters, formatter in before:
        handler.filters[:] = filters
        handler.setFormatter(formatter)


@pytest.fixture
def metrics() -> Metrics:
    """Metrics on a registry of their own."""
    return Metrics(CollectorRegistry())


@pytest.fixture
def sample(metrics: Metrics) -> Callable[..., float | None]:
    """The value of a metric by its exposed name and labels, or None if it was never set."""
    return lambda name, **labels: metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def repository(tmp_path: Path, metrics: Metrics) -> Iterator[Repository]:
    """A repository over an empty folder; nothing is loaded yet. Equal rows stand for different ones: each is run."""
    folder = tmp_path / "models"
    folder.mkdir()
    repository = Repository(folder, Settings(runners=2, coalesce=False), metrics)
    yield repository
    repository.close()


@pytest.fixture
def loaded(repository: Repository) -> Repository:
    """A repository that serves the model ``intent``: stub backend, batches of at most 4 rows."""
    write_bundle(repository.folder)
    repository.load_all()
    return repository


@pytest.fixture
def inference(loaded: Repository, metrics: Metrics) -> Inference:
    """What both protocols do, over the loaded repository."""
    return Inference(loaded, metrics, Settings(timeout=60.0))


@pytest.fixture
def management(inference: Inference) -> Management:
    """What both protocols tell of models and do to them; loading is allowed."""
    return Management(inference, explicit=True)


@pytest.fixture
def client(management: Management, metrics: Metrics) -> TestClient:
    """An HTTP client of the application, in this process; bodies are limited to 1 MiB."""
    return TestClient(build_app(management, metrics, max_body=2**20), raise_server_exceptions=False)


@pytest.fixture
def held(loaded: Repository) -> Iterator[HeldBackend]:
    """The backend under ``intent`` runs only when the test lets it."""
    backend = HeldBackend(len(LABELS))
    loaded.get("intent").model.backend = backend
    yield backend
    backend.released.set()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of the real server: two models that answer and one that is quarantined; batches of at most 4."""
    folder = tmp_path_factory.mktemp("served")
    write_bundle(folder, "intent")
    write_bundle(folder, "topic", 2, backend="onnxruntime", labels=("arts", "money", "sports", "travel"))
    write_bundle(folder, "broken", wrong_golden=True)
    return folder


@pytest.fixture(scope="session")
def server(served: Path) -> Iterator[ServerProcess]:
    """A real server over ``served``, with bodies of at most 4 MiB."""
    with running(served, "--runners", "2", "--max-body", str(4 * 2**20)) as process:
        yield process


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Each wire in turn."""
    found: Wire = request.param
    return found
