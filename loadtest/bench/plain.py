"""The server most teams write first: FastAPI, one tokenizer, one session, each request run alone.

It answers the same v2 JSON as the gateway; everything else is as its framework's documentation shows, and ONNX Runtime
uses all cores for each request, its default. Run as ``python -m loadtest.bench.plain MODEL_VERSION_FOLDER PORT``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel
from tokenizers import Tokenizer


class InputTensor(BaseModel):
    """A v2 input in JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferBody(BaseModel):
    """A v2 request in JSON."""

    inputs: list[InputTensor]


def build_app(folder: Path) -> FastAPI:
    """The application for one version directory; ONNX Runtime uses all cores for each request, its default."""
    labels = json.loads((folder / "assets" / "labels.json").read_text("utf-8"))
    settings = json.loads((folder / "assets" / "text.json").read_text("utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "assets" / "tokenizer.json"))
    tokenizer.enable_truncation(settings["max_length"])
    tokenizer.no_padding()
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    arrays = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    app = FastAPI()

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        return Response()

    @app.get("/v2/models/{model}")
    async def metadata(model: str) -> dict[str, Any]:
        text = {"name": "text", "datatype": "BYTES", "shape": [-1, 1]}
        return {"name": model, "versions": ["1"], "platform": "plain", "inputs": [text], "outputs": []}

    @app.post("/v2/models/{model}/infer")
    async def infer(model: str, body: InferBody) -> dict[str, Any]:
        encoding = tokenizer.encode(body.inputs[0].data[0])
        feeds = {name: np.array([getattr(encoding, arrays[name])], np.int64) for name in settings["arrays"]}
        (logits,) = session.run(["logits"], feeds)
        label = labels[int(logits[0].argmax())]
        return {
            "model_name": model,
            "model_version": "1",
            "outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": [label]},
                {"name": "logits", "datatype": "FP32", "shape": list(logits.shape), "data": logits[0].tolist()},
            ],
        }

    return app


def main(argv: Sequence[str]) -> None:
    """Serve until killed."""
    folder, port = argv
    uvicorn.run(build_app(Path(folder)), port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1:])
