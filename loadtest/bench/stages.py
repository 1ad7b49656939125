"""``python -m loadtest.bench.stages MODEL``: where each microsecond of one request goes, stage by stage.

Each stage is called by itself, in turn with all others, and the median is told; what is left of the time that a client
of a running gateway waits is its server: sockets, HTTP or gRPC framing, the event loop and the hand-over to a runner.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2

from loadtest.bench import launch
from loadtest.bench.processes import CannotRun
from serving import graphs
from serving.bundle import open_bundle
from serving.codec import Tensor, to_raw
from serving.columns import Schema
from serving.errors import DownstreamError
from serving.gateway import grpc_messages, http_messages
from serving.gateway.messages import Answered, InferResponse, Output
from serving.gateway.shared_memory import Regions
from serving.model import Model
from serving.settings import Settings
from serving.tensors import Row, sizes, stack, unstack

REGIONS = Regions(allowed=False, largest=0)
HEADERS: Mapping[bytes, bytes] = {b"content-type": b"application/json"}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table for the example row of a model, or for ``--text``."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.stages", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("--text", help="the row (default: the model's example)")
    parser.add_argument("--rounds", type=int, default=500, help="default 500")
    args = parser.parse_args(argv)
    try:
        bundle = open_bundle(launch.version_folder(args.model))
        task = bundle.open_task()
        backend = graphs.opened(bundle, Settings())
    except (CannotRun, DownstreamError) as error:
        print(f"stages: {error}", file=sys.stderr)
        return 2
    model = Model(bundle.manifest.name, task, backend, bundle.manifest.max_batch_size)
    row = {"text": args.text} if args.text else dict(task.example)
    spent = medians(stages(model, row), args.rounds)
    tokens = model.length(model.encode(model.check(row)))
    table = Table(title=f"one row of {tokens} tokens, microseconds on one thread, medians of {args.rounds}")
    for heading in ("stage", "us", "share"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    total = sum(spent.values())
    for stage, seconds in spent.items():
        table.add_row(stage, f"{1e6 * seconds:.1f}", f"{seconds / total:.1%}")
    Console(width=110).print(table)
    return 0


def stages(model: Model, row: Row) -> dict[str, Callable[[], Any]]:
    """What is done with one row, in order, each stage as a call without arguments."""
    schema, graph = model.schema, model.graph
    (name,) = model.task.graphs
    tensors = [_tensor(schema, column, value) for column, value in row.items()]
    body, message = _http_request(tensors), _grpc_request(tensors)
    (given,) = schema.rows(http_messages.parse_infer(schema.model, "", HEADERS, body, REGIONS).inputs)
    checked = model.check(given)
    encoded = model.encode(checked)
    batch = stack([encoded], graph.inputs)
    outputs = model.backend.run(name, batch)
    own = [sizes(encoded, graph.inputs)]
    answer = model.task.decode(encoded, unstack(outputs, graph.outputs, own)[0])
    wanted = schema.wanted([])
    response = InferResponse(
        schema.model, "1", "", [Answered(schema.gathered(field, [answer]), Output(field.name)) for field in wanted]
    )
    return {
        "parse HTTP JSON": lambda: http_messages.parse_infer(schema.model, "", HEADERS, body, REGIONS),
        "parse gRPC": lambda: grpc_messages.parse_infer(
            service_pb2.ModelInferRequest.FromString(message), None, REGIONS
        ),
        "tensors to rows": lambda: schema.rows(tensors),
        "check": lambda: model.check(given),
        "encode (clean, tokenize)": lambda: model.encode(checked),
        "stack": lambda: stack([encoded], graph.inputs),
        "session": lambda: model.backend.run(name, batch),
        "unstack and decode": lambda: model.task.decode(encoded, unstack(outputs, graph.outputs, own)[0]),
        "rows to tensors": lambda: [schema.gathered(field, [answer]) for field in wanted],
        "render HTTP JSON": lambda: http_messages.render_infer(response, REGIONS),
        "render gRPC": lambda: grpc_messages.render_infer(response, REGIONS).SerializeToString(),
    }


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each call; all are called in every round, so that noise falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(found) for name, found in seconds.items()}


def _tensor(schema: Schema, column: str, value: Any) -> Tensor:
    field = next(field for field in schema.inputs if field.name == column)
    return schema.gathered(field, [{column: value}])


def _http_request(tensors: Sequence[Tensor]) -> bytes:
    inputs = [
        {"name": t.name, "datatype": t.datatype, "shape": list(t.array.shape), "data": t.array.ravel().tolist()}
        for t in tensors
    ]
    return orjson.dumps({"inputs": inputs})


def _grpc_request(tensors: Sequence[Tensor]) -> bytes:
    request = service_pb2.ModelInferRequest(raw_input_contents=[to_raw(tensor) for tensor in tensors])
    for tensor in tensors:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
    serialised: bytes = request.SerializeToString()
    return serialised


if __name__ == "__main__":
    sys.exit(main())
