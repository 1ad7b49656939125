"""The figures of docs/results.md on SST-2, asserted: accuracy, what INT8 loses, and served answers over every client.

It takes a finished run, since training takes a quarter of an hour:
``downstream finetune finetune/recipes/sst2.yaml && python -m pytest -m full -s tests/test_sst2.py``
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

ROOT = Path(__file__).parent.parent
RUN = ROOT / "runs" / "sst2"
ROWS_PER_REQUEST = 8

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        not (RUN / "checkpoint.json").is_file(),
        reason="no runs/sst2: `downstream finetune finetune/recipes/sst2.yaml` makes it from ../shared/data/sst2",
    ),
]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in (RUN / "validation.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def reference(rows: list[dict[str, str]]) -> list[str]:
    """The labels that the PyTorch checkpoint gives."""
    import transformers

    from finetune.prediction import predict
    from serving.tasks import find

    task = find("text-classification").open(RUN / "assets")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(RUN / "model")
    return [answer["label"] for answer in predict(model, task, [task.encode(row) for row in rows])]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    kind = ["--precision", "int8-static-smooth"]  # the default kind agrees on 98.4 % of the rows
    command = ["-m", "downstream", "export", str(RUN), "--repository", str(folder), "--name", "sst2", *kind]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def ports(repository: Path) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "serving", str(repository), "--http-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found: tuple[int, int] | None = None
        for line in server.stderr:
            listening = re.search(r"http://[^:]+:(\d+)\s+grpc://[^:]+:(\d+)", line)
            found = (int(listening[1]), int(listening[2])) if listening else found
            if line.rstrip().endswith("ready") and "not ready" not in line:
                break
        assert found is not None
        yield found
        server.send_signal(signal.SIGTERM)
    assert server.returncode == 0


def test_the_checkpoint_reaches_the_accuracy_that_the_documents_state() -> None:
    metrics = json.loads((RUN / "metrics.json").read_text("utf-8"))
    assert metrics["validation"]["accuracy"] >= 0.895


def test_int8_loses_at_most_one_point(repository: Path) -> None:
    manifest = json.loads((repository / "sst2" / "1" / "manifest.json").read_text("utf-8"))
    assert manifest["precision"].startswith("int8")
    quality = manifest["quality"]
    assert quality["pytorch"]["accuracy"] - quality[manifest["precision"]]["accuracy"] <= 0.01


@pytest.mark.parametrize("client", ["http", "grpc", "http.aio", "grpc.aio"])
def test_served_labels_agree_with_pytorch_on_99_percent(
    client: str, ports: tuple[int, int], rows: list[dict[str, str]], reference: list[str]
) -> None:
    texts = [row["text"] for row in rows]
    batches = [texts[start : start + ROWS_PER_REQUEST] for start in range(0, len(texts), ROWS_PER_REQUEST)]
    ask = {"http": over_http, "grpc": over_grpc, "http.aio": over_http_aio, "grpc.aio": over_grpc_aio}[client]
    served = ask(ports, batches)
    agreement = np.mean([a == b for a, b in zip(served, reference, strict=True)])
    expected = [row["label"] for row in rows]
    accuracy = np.mean([a == b for a, b in zip(served, expected, strict=True)])
    print(f"\n{client}: agreement with PyTorch {agreement:.4f}, accuracy {accuracy:.4f} on {len(rows)} rows")
    assert agreement >= 0.99


def tensor(module: Any, texts: list[str]) -> list[Any]:
    made = module.InferInput("text", [len(texts), 1], "BYTES")
    made.set_data_from_numpy(np.array([[text] for text in texts], object))
    return [made]


def labels(result: Any) -> list[str]:
    return [value.decode() for value in result.as_numpy("label").reshape(-1)]


def over_http(ports: tuple[int, int], batches: list[list[str]]) -> list[str]:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{ports[0]}") as client:
        return [x for b in batches for x in labels(client.infer("sst2", tensor(tritonclient.http, b)))]


def over_grpc(ports: tuple[int, int], batches: list[list[str]]) -> list[str]:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{ports[1]}") as client:
        return [x for b in batches for x in labels(client.infer("sst2", tensor(tritonclient.grpc, b)))]


def over_http_aio(ports: tuple[int, int], batches: list[list[str]]) -> list[str]:
    return asyncio.run(_at_once(tritonclient.http.aio, f"127.0.0.1:{ports[0]}", batches))


def over_grpc_aio(ports: tuple[int, int], batches: list[list[str]]) -> list[str]:
    return asyncio.run(_at_once(tritonclient.grpc.aio, f"127.0.0.1:{ports[1]}", batches))


async def _at_once(module: Any, url: str, batches: list[list[str]]) -> list[str]:
    client = module.InferenceServerClient(url)
    results = await asyncio.gather(*(client.infer("sst2", tensor(module, batch)) for batch in batches))
    await client.close()
    return [label for result in results for label in labels(result)]
