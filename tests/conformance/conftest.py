"""Three servers over the same models: the gateway, a real Triton with our backend, the gateway before that Triton."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from serving.triton_install import install
from tests.conformance.clients import LIBRARIES, Client
from tests.conformance.models import write_repository
from tests.serving.server_process import running
from tests.triton_server import backends_folder, running_triton, why_absent

GATEWAY, TRITON, BEFORE_TRITON = "gateway", "triton", "gateway before triton"


@dataclass(frozen=True)
class Server:
    """A running server, by what it is; ``folder`` is its repository, ``traces`` where its traces go."""

    kind: str
    http: str
    grpc: str
    folder: Path
    traces: Path

    @property
    def is_triton(self) -> bool:
        """Whether it is NVIDIA's."""
        return self.kind == TRITON


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway with ONNX Runtime inside."""
    home = tmp_path_factory.mktemp("gateway")
    folder, traces = write_repository(home / "models"), home / "traces.json"
    options = ["--model-control", "explicit", "--allow-shared-memory", "--trace-file", str(traces)]
    with running(folder, *options) as process:
        yield Server(GATEWAY, process.http, process.grpc, folder, traces)


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real Triton server with our backend."""
    if reason := why_absent():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("triton")
    folder, traces = write_repository(home / "models"), home / "traces.json"
    backends = backends_folder(home / "backends")
    install(backends)
    trace = [f"--trace-config=triton,file={traces}", "--trace-config=level=OFF", "--trace-config=rate=1000"]
    with running_triton(folder, backends, "--model-control-mode=explicit", "--load-model=*", *trace) as process:
        yield Server(TRITON, process.http, process.grpc, folder, traces)


@pytest.fixture(scope="session")
def before_triton(triton: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway; its graphs are run by the real Triton, by the models of the same names there."""
    home = tmp_path_factory.mktemp("before")
    folder, traces = write_repository(home / "models", single=False), home / "traces.json"
    options = ["--model-control", "explicit", "--allow-shared-memory", "--trace-file", str(traces)]
    with running(folder, *options, "--triton-graphs", f"{triton.grpc}/{{name}}") as process:
        yield Server(BEFORE_TRITON, process.http, process.grpc, folder, traces)


@pytest.fixture(params=[GATEWAY, TRITON, BEFORE_TRITON])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    found: Server = request.getfixturevalue(request.param.replace("gateway before", "before").replace(" ", "_"))
    return found


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.__name__.removeprefix("tritonclient."))
def library(request: pytest.FixtureRequest) -> ModuleType:
    """Each client library in turn."""
    found: ModuleType = request.param
    return found


@pytest.fixture
def client(server: Server, library: Any) -> Iterator[Client]:
    """A client of the library, connected to the server."""
    client = Client(library, server)
    yield client
    client.close()
