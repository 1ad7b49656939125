"""What runs a graph in Triton's onnxruntime backend: CPU, CUDA or TensorRT; written to a configuration, and checked.

Parameters are those of github.com/triton-inference-server/onnxruntime_backend, README.md; it refuses unknown ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx
from tritonclient.grpc import model_config_pb2 as pb

from serving.errors import InvalidInput, fault
from serving.tensors import Field

CPU, CUDA, TENSORRT = NAMES = ("cpu", "cuda", "tensorrt")
# TensorRT's parser has neither (github.com/onnx/onnx-tensorrt, docs/operators.md, of 8.4 to 10.15), and CUDA multiplies
# only signed activations (onnxruntime, docs/OperatorKernels.md), which DynamicQuantizeLinear does not make.
CPU_ONLY_OPS = frozenset({"DynamicQuantizeLinear", "MatMulInteger"})
PRECISIONS = ("FP32", "FP16", "INT8")
WORKSPACE_BYTES = 1 << 30
# Rows of a batch that the engine is tuned for; smaller and larger ones run too.
TUNED_ROWS = 8
PROFILES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
TENSORRT_PARAMETERS = frozenset(
    (
        "precision_mode",
        "max_workspace_size_bytes",
        "int8_calibration_table_name",
        "int8_use_native_calibration_table",
        "trt_max_partition_iterations",
        "trt_min_subgraph_size",
        "trt_dla_enable",
        "trt_dla_core",
        "trt_engine_cache_enable",
        "trt_engine_cache_path",
        "trt_engine_cache_prefix",
        "trt_dump_subgraphs",
        "trt_force_sequential_engine_build",
        "trt_context_memory_sharing_enable",
        "trt_layer_norm_fp32_fallback",
        "trt_timing_cache_enable",
        "trt_timing_cache_path",
        "trt_force_timing_cache",
        "trt_detailed_build_log",
        "trt_build_heuristics_enable",
        "trt_sparsity_enable",
        "trt_builder_optimization_level",
        "trt_auxiliary_streams",
        "trt_tactic_sources",
        "trt_extra_plugin_lib_paths",
        "trt_profile_min_shapes",
        "trt_profile_max_shapes",
        "trt_profile_opt_shapes",
        "trt_cuda_graph_enable",
        "trt_dump_ep_context_model",
        "trt_ep_context_file_path",
        "trt_ep_context_embed_mode",
    )
)


@dataclass(frozen=True)
class Accelerator:
    """What runs a graph: ``name`` is one of NAMES.

    ``instances`` run at the same time, each with weights of its own. ``engine_cache`` is a folder on the server.
    """

    name: str = CPU
    instances: int = 1
    engine_cache: str | None = None

    def check(self, precision: str) -> None:
        """Raises InvalidInput when a graph of that precision cannot run here, or an option has no meaning."""
        if self.name != CPU and precision != "fp32":
            raise InvalidInput(
                fault(
                    "--triton-accelerator",
                    "runs no INT8 graph (its unsigned activations and MatMulInteger are for CPUs)",
                    self.name,
                    "add --precision fp32; TensorRT makes an FP16 engine of it",
                )
            )
        if self.engine_cache and self.name != TENSORRT:
            raise InvalidInput(
                fault(
                    "--triton-engine-cache", f"means nothing on {self.name}", self.engine_cache,
                    "add --triton-accelerator tensorrt",
                )
            )  # fmt: skip

    def configure(
        self, config: pb.ModelConfig, inputs: Sequence[Field], tuned: Mapping[str, int], most: Mapping[str, int]
    ) -> None:
        """Write it into a configuration; ``tuned`` and ``most`` are usual and largest sizes of the symbolic axes."""
        kind = pb.ModelInstanceGroup.KIND_CPU if self.name == CPU else pb.ModelInstanceGroup.KIND_GPU
        config.instance_group.add(kind=kind, count=self.instances)
        # A plan per input shape would be kept for every new length, and memory would only grow.
        config.parameters["enable_mem_pattern"].string_value = "0"
        if self.name == CPU:
            # 0 is all cores, which several instances would take from one another.
            config.parameters["intra_op_thread_count"].string_value = "0" if self.instances == 1 else "1"
        if self.name != TENSORRT:
            return
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name=TENSORRT)
        parameters = accelerator.parameters
        parameters["precision_mode"] = "FP16"
        parameters["max_workspace_size_bytes"] = str(WORKSPACE_BYTES)
        if self.engine_cache:
            parameters["trt_engine_cache_enable"] = "1"
            parameters["trt_engine_cache_path"] = self.engine_cache
        # Without ranges, each length beyond those seen before would stop the server to build a new engine.
        rows = min(TUNED_ROWS, config.max_batch_size)
        least = dict.fromkeys(most, 1)
        for name, count, sizes in zip(PROFILES, (1, rows, config.max_batch_size), (least, tuned, most), strict=True):
            shapes = [[count, *(sizes[d] if isinstance(d, str) else d for d in field.shape)] for field in inputs]
            parameters[name] = ",".join(
                f"{field.name}:{'x'.join(map(str, shape))}" for field, shape in zip(inputs, shapes, strict=True)
            )


def faults(config: pb.ModelConfig, models: Sequence[onnx.ModelProto]) -> Iterator[str]:
    """What of the accelerators the onnxruntime backend would refuse, or silently leave out."""
    on_gpu = any(group.kind in (pb.ModelInstanceGroup.KIND_GPU, pb.ModelInstanceGroup.KIND_AUTO)
                 for group in config.instance_group) or not config.instance_group  # fmt: skip
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    if accelerators and not on_gpu:
        kinds = [pb.ModelInstanceGroup.Kind.Name(group.kind) for group in config.instance_group]
        yield fault("instance_group kind", "leaves the GPU accelerator unused", kinds, "set KIND_GPU")
    used = {op_type for model in models for op_type in _only_for_cpus(model)}
    for accelerator in accelerators:
        if accelerator.name not in (CUDA, TENSORRT):
            yield fault("gpu_execution_accelerator name", "unknown", accelerator.name, "give tensorrt or cuda")
        if used and accelerator.name == TENSORRT:
            remedy = "export the model with --precision fp32"
            yield fault("gpu_execution_accelerator name", "cannot run INT8 made for CPUs", sorted(used), remedy)
        if accelerator.name == TENSORRT:
            yield from _tensorrt(config, accelerator.parameters)


def _only_for_cpus(model: onnx.ModelProto) -> Iterator[str]:
    """The operators of INT8 graphs as this stage makes them; TensorRT has no unsigned bytes (docs/operators.md too)."""
    unsigned = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.UINT8}
    for node in model.graph.node:
        if node.op_type in CPU_ONLY_OPS or (node.op_type == "QuantizeLinear" and unsigned & set(node.input)):
            yield node.op_type


def _tensorrt(config: pb.ModelConfig, parameters: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(parameters.keys() - TENSORRT_PARAMETERS):
        yield fault(f"tensorrt {name}", "unknown parameter", parameters[name], "the backend's README.md lists them all")
    precision = parameters.get("precision_mode", "FP32")
    if precision not in PRECISIONS:
        yield fault("tensorrt precision_mode", "unknown", precision, f"give one of {', '.join(PRECISIONS)}")
    shapes = {name: _shapes(parameters[name]) for name in PROFILES if name in parameters}
    wanted = {one.name: len(one.dims) + (config.max_batch_size > 0) for one in config.input}
    for name, found in shapes.items():
        if found is None or {one: len(shape) for one, shape in found.items()} != wanted:
            axes = ",".join(f"{one}:{'x'.join('N' * rank)}" for one, rank in wanted.items())
            yield fault(f"tensorrt {name}", "is not a shape of every input", parameters[name], f"write {axes}")
    if not shapes:
        return
    if len(shapes) < len(PROFILES):
        missing = [name for name in PROFILES if name not in shapes]
        yield fault("tensorrt", "a range needs all three profiles", sorted(shapes), f"add {', '.join(missing)}")
    known = [found for found in shapes.values() if found is not None and found.keys() == wanted.keys()]
    for smaller, larger in pairwise(known):
        for one in wanted:
            if any(a > b for a, b in zip(smaller[one], larger[one], strict=False)):
                both = [smaller[one], larger[one]]
                yield fault(f"tensorrt profile of {one}", "out of order", both, "order them as min <= opt <= max")


def _shapes(text: str) -> dict[str, list[int]] | None:
    """``ids:1x8,mask:1x8`` by name, or None for anything else."""
    try:
        pairs = [part.rpartition(":") for part in text.split(",")]
        return {name: [int(size) for size in sizes.split("x")] for name, _, sizes in pairs}
    except ValueError:
        return None
