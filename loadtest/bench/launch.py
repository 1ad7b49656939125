"""How each system is started: a command and an environment for it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.processes import CannotRun

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv-peers"
TRITON = ROOT / ".venv-triton"
TRITON_CONFIG = """\
name: "classifier"
backend: "python"
max_batch_size: 32
input {{ name: "text" data_type: TYPE_STRING dims: 1 }}
output {{ name: "label" data_type: TYPE_STRING dims: 1 }}
output {{ name: "logits" data_type: TYPE_FP32 dims: {labels} }}
dynamic_batching {{ max_queue_delay_microseconds: 100 }}
instance_group {{ count: {workers} kind: KIND_CPU }}
parameters {{ key: "bundle" value {{ string_value: "{bundle}" }} }}
"""


@dataclass(frozen=True)
class Setup:
    """What a system is started with: the model and its version directory, three ports, an empty folder of its own.

    ``workers`` processes run the graph, each on one core.
    """

    model: Path
    bundle: Path
    ports: tuple[int, ...]
    home: Path
    workers: int


@dataclass(frozen=True)
class Launch:
    """A command, and what is added to its environment."""

    command: list[str]
    environ: Mapping[str, str]


def gateway(setup: Setup) -> Launch:
    """The gateway on a repository that holds the one model."""
    repository = setup.home / "repository"
    repository.mkdir()
    (repository / setup.model.name).symlink_to(setup.model)
    ports = ["--http-port", str(setup.ports[0]), "--grpc-port", str(setup.ports[1])]
    return Launch([sys.executable, "-m", "serving", str(repository), *ports, "--log-level", "warning"], {})


def plain(setup: Setup) -> Launch:
    """The FastAPI program that runs each request alone."""
    command = [sys.executable, "-m", "loadtest.bench.plain", str(setup.bundle), str(setup.ports[0])]
    return Launch(command, {})


def peer(name: str) -> Callable[[Setup], Launch]:
    """A program of ``peers/`` on the Python of its own environment."""

    def launch(setup: Setup) -> Launch:
        programs = PEERS / name / "bin"
        _check_installed(PEERS / name)
        module = f"loadtest.bench.peers.{name}_server"
        command = [str(programs / "python"), "-m", module]
        if name == "bentoml":
            address = ["--host", "127.0.0.1", "--port", str(setup.ports[0])]
            command = [str(programs / "bentoml"), "serve", f"{module}:Classifier", *address]
        return Launch(
            command,
            {
                "BENCH_BUNDLE": str(setup.bundle),
                "BENCH_PORTS": " ".join(map(str, setup.ports)),
                "BENCH_HOME": str(setup.home),
                "BENCH_WORKERS": str(setup.workers),
                "PYTHONPATH": str(ROOT),
                "BENTOML_DO_NOT_TRACK": "1",
                "BENTOML_HOME": str(setup.home),
                "RAY_USAGE_STATS_ENABLED": "0",
                # Ray lowers the priority of its workers, which would let the load generator push them aside.
                "RAY_worker_niceness": "0",
            },
        )

    return launch


def triton(setup: Setup) -> Launch:
    """A real Triton server with the model of ``peers/triton_model.py``, which imports from beside itself."""
    _check_installed(TRITON)
    version = setup.home / "models" / "classifier" / "1"
    version.mkdir(parents=True)
    (version / "model.py").symlink_to(Path(__file__).with_name("peers") / "triton_model.py")
    (version / "loadtest").symlink_to(ROOT / "loadtest")
    labels = json.loads((setup.bundle / "assets" / "labels.json").read_text("utf-8"))
    config = TRITON_CONFIG.format(labels=len(labels), workers=setup.workers, bundle=setup.bundle)
    (version.parent / "config.pbtxt").write_text(config, "utf-8")
    packages = TRITON / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    faces = zip(("http", "grpc", "metrics"), setup.ports, strict=True)
    command = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={version.parent.parent}",
        f"--backend-directory={TRITON.resolve() / 'backends'}",
        f"--cache-directory={server / 'caches'}",
        *(option for face, port in faces for option in (f"--{face}-address=127.0.0.1", f"--{face}-port={port}")),
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        "--exit-timeout-secs=5",
    ]
    libraries = [packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    return Launch(
        command,
        {
            # The interpreter of the models is the first python3 on PATH.
            "PATH": f"{TRITON / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        },
    )


def version_folder(model: Path) -> Path:
    """The newest version of a model directory. Raises CannotRun where there is none."""
    versions = [path for path in model.glob("*") if path.name.isdigit() and path.is_dir()]
    if not versions:
        raise CannotRun(f"{model} has no version; `make bench` makes model_repository/bench, or name a model directory")
    return max(versions, key=lambda path: int(path.name)).resolve()


def version_of(package: str, folder: Path | None = None) -> str:
    """The installed version of a package, here or in the environment ``folder``; empty where it is not there."""
    path = [str(one) for one in folder.glob("lib/python*/site-packages")] if folder else sys.path
    found = importlib.metadata.distributions(name=package, path=path)
    return next((one.version for one in found), "")


def free_ports(count: int) -> tuple[int, ...]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return tuple(int(probe.getsockname()[1]) for probe in probes)


def _check_installed(folder: Path) -> None:
    marker = folder / "absent"
    if marker.is_file():
        raise CannotRun(marker.read_text("utf-8").strip())
    if not (folder / ".installed").is_file():
        raise CannotRun("is not installed: `make bench` does it")
