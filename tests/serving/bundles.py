"""Tiny real bundles for text classification, written in code: no training, no download, milliseconds to load."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import text_format
from onnx import TensorProto, helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving import model_config
from serving.backends import open_backend
from serving.bundle import ASSETS, GOLDEN, GoldenRow, digest_folder, plain, write_golden, write_json, write_manifest
from serving.manifest import MANIFEST, SIGNATURE, Manifest, digest_of
from serving.modality.text import SETTINGS, TOKENIZER, TextSettings
from serving.tasks import Task
from serving.tasks.text_classification import LABELS as LABELS_FILE
from serving.tasks.text_classification import TextClassification
from serving.tensors import Row, sizes, stack, unstack

LABELS = ("cancel", "refund", "thanks")
MAX_LENGTH = 64
ARRAYS = ("input_ids", "attention_mask")
GOLDEN_ROWS: tuple[Row, ...] = (
    {"text": "I want my money back"},
    {"text": "Grüße 👩‍🚀", "text_pair": "何時ですか"},
)
GRAPH_FILES = {"stub": "model.json", "onnxruntime": "model.onnx", "torchscript": "model.pt"}
SPECIAL = ("[PAD]", "[CLS]", "[SEP]")


def byte_tokenizer() -> Tokenizer:
    """Every byte of the UTF-8 form is one token, so an answer shows whether a text arrived whole."""
    vocabulary = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def write_assets(folder: Path, labels: Sequence[str] = LABELS, pair: str = "sometimes") -> Path:
    """The assets of text classification, as a checkpoint has them."""
    folder.mkdir(parents=True)
    byte_tokenizer().save(str(folder / TOKENIZER))
    settings = TextSettings(max_length=MAX_LENGTH, arrays=ARRAYS, pad_id=0, pair=pair)
    write_json(folder / SETTINGS, settings.to_json())
    write_json(folder / LABELS_FILE, list(labels))
    return folder


def write_graph(path: Path, backend: str, labels: int = len(LABELS), delay: float = 0.0) -> Path:
    """A graph that any backend of that name loads: input_ids and attention_mask in, logits out."""
    if backend == "stub":
        write_json(path, {"outputs": {"logits": [labels]}, "delay": delay})
    elif backend == "torchscript":
        write_torch_graph(path, labels)
    else:
        path.write_bytes(onnx_graph(labels).SerializeToString())
    return path


def onnx_graph(labels: int) -> onnx.ModelProto:
    """logits = (sum over tokens of input_ids * attention_mask) @ W, which padding does not change."""
    weights = np.linspace(-0.002, 0.003, labels, dtype=np.float32).reshape(1, labels)
    axis = np.array([1], np.int64)
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["total"], keepdims=1),
        helper.make_node("MatMul", ["total", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in ARRAYS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(axis, "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_torch_graph(path: Path, labels: int) -> None:
    """The graph of ``onnx_graph`` as TorchScript or, where the file ends in .pt2, as torch.export has it."""
    import torch  # here: most of what uses these bundles is to run without it

    class Tiny(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
            weights = torch.linspace(-0.002, 0.003, labels).reshape(1, labels)
            return ((input_ids * attention_mask).float().sum(1, keepdim=True) @ weights,)

    # Not the same tensor twice: torch.export would make one input of it.
    example = (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64))
    names = {"names.json": json.dumps({"inputs": ARRAYS, "outputs": ["logits"]})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        if path.suffix == ".pt":
            torch.jit.save(torch.jit.trace(Tiny(), example), path, _extra_files=names)
        else:
            free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
            torch.export.save(
                torch.export.export(Tiny(), example, dynamic_shapes=(free, free)), path, extra_files=names
            )


def write_bundle(
    repository: Path,
    name: str = "intent",
    version: int = 1,
    *,
    backend: str = "stub",
    labels: Sequence[str] = LABELS,
    max_batch_size: int = 4,
    delay: float = 0.0,
    golden: Sequence[Row] = GOLDEN_ROWS,
    wrong_golden: bool = False,
    damaged: str | None = None,
    config: str = "",
    stated: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``repository/NAME/VERSION`` and ``config.pbtxt``; the version directory.

    ``wrong_golden`` shifts the golden logits; ``damaged`` is a file that changes after its digest was taken;
    ``config`` is appended to ``config.pbtxt``; ``stated`` is what the manifest says beside what it must. ``delay`` is
    in seconds per run of the stub.
    """
    folder = repository / name / str(version)
    assets = write_assets(folder / ASSETS, labels)
    graph = write_graph(folder / GRAPH_FILES[backend], backend, len(labels), delay)
    task = TextClassification.open(assets)
    answers = [answered(task, backend, graph, row) for row in golden]
    if wrong_golden:
        answers = [{**answer, "logits": np.asarray(answer["logits"]) + 1} for answer in answers]
    write_golden(folder / GOLDEN, [GoldenRow(row, plain(answer)) for row, answer in zip(golden, answers, strict=True)])
    manifest = Manifest(
        name=name,
        version=version,
        task="text-classification",
        backend=backend,
        precision="fp32",
        graphs={"model": graph.name},
        tolerance={"logits": 1e-4},
        max_batch_size=max_batch_size,
        **(stated or {}),
    )
    write_manifest(folder, manifest)
    if damaged:
        with (folder / damaged).open("ab") as file:
            file.write(b" ")
    batching = "" if "dynamic_batching" in config else "dynamic_batching { }"
    (repository / name / model_config.FILE).write_text(
        f'name: "{name}" backend: "downstream" max_batch_size: {max_batch_size} {batching}\n{config}', "utf-8"
    )
    return folder


def answered(task: Task, backend: str, graph: Path, row: Row) -> Row:
    """The answer of one row, computed through the backend itself, without engine or scheduler."""
    (arrays,) = task.graphs.values()
    encoded = task.encode(row)
    outputs = open_backend(backend, {"model": graph}).run("model", stack([encoded], arrays.inputs))
    (own,) = unstack(outputs, arrays.outputs, [sizes(encoded, arrays.inputs)])
    return task.decode(encoded, own)


def manifest_of(folder: Path) -> dict[str, object]:
    """``manifest.json`` of a version directory, as it lies on disk."""
    value: dict[str, object] = json.loads((folder / MANIFEST).read_text("utf-8"))
    return value


def reseal(folder: Path, **changes: Any) -> None:
    """Make every digest right again after files were changed; what else the manifest says may be changed too.

    So may an attacker do it, or a fault in an exporter: then only what the files hold can give them away.
    """
    files = {name: digest for name, digest in digest_folder(folder).items() if name not in (MANIFEST, SIGNATURE)}
    said = {**manifest_of(folder), "files": files, **changes}
    write_json(folder / MANIFEST, {**said, "digest": digest_of(said)})


def config_of(text: str) -> ModelConfig:
    """A ModelConfig from its text form."""
    return text_format.Parse(text, ModelConfig())
