"""What a model's configuration asks of the server that runs it, and what of it this gateway cannot do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup, ModelQueuePolicy

from serving.errors import BundleError, InvalidInput, fault, listed
from serving.manifest import MODEL_DIGEST
from serving.scheduler.limits import ANY_WAIT, Limits, QueuePolicy
from serving.settings import Settings, for_model, share_of_cores

MICROSECONDS = 1e-6

# What is done as the configuration says, by path; what stands elsewhere is named in a warning.
HONOURED = {
    "name",
    "backend",
    "max_batch_size",
    "version_policy",
    "input.name",
    "input.data_type",
    "input.dims",
    "input.optional",
    "input.allow_ragged_batch",
    "output.name",
    "output.data_type",
    "output.dims",
    "output.label_filename",  # by the labels of the version itself, from which the exporter wrote the file
    "instance_group.name",
    "instance_group.count",
    "instance_group.kind",
    "dynamic_batching.preferred_batch_size",
    "dynamic_batching.max_queue_delay_microseconds",
    "dynamic_batching.priority_levels",
    "dynamic_batching.default_priority_level",
    "dynamic_batching.default_queue_policy",
    "dynamic_batching.priority_queue_policy",
    "model_warmup",
    "response_cache",
    "parameters",
}


@dataclass(frozen=True)
class Policy:
    """How one model is run; ``ignored`` is what its configuration asks for in vain."""

    settings: Settings
    limits: Limits
    cache_bytes: int
    ignored: tuple[str, ...]


def policy(config: ModelConfig, settings: Settings) -> Policy:
    """What a configuration makes of the server's settings. Raises BundleError for what cannot be done."""
    faults = _impossible(config)
    if faults:
        raise BundleError(f"config.pbtxt: {listed(faults)}")
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    try:
        own, unknown = for_model(_by_instances(config, settings), parameters)
    except InvalidInput as error:
        raise BundleError(f"config.pbtxt: {error}") from error
    batching = config.dynamic_batching
    if not batching.priority_levels and batching.default_queue_policy.max_queue_size:
        own = dataclasses.replace(own, capacity=batching.default_queue_policy.max_queue_size)
    # Whoever loads a configuration that this server told brings its digest along, and gets that of the version.
    unhonoured = (f"parameters {name!r}" for name in unknown if name != MODEL_DIGEST)
    ignored = [*_beyond(config, ""), *unhonoured]
    if any(group.kind == ModelInstanceGroup.KIND_GPU for group in config.instance_group):
        ignored.append("instance_group.kind KIND_GPU")
    cache_bytes = own.cache_bytes if config.response_cache.enable else 0
    return Policy(own, _limits(config), cache_bytes, tuple(dict.fromkeys(ignored)))


def _impossible(config: ModelConfig) -> list[str]:
    """What Triton refuses to load, too: ValidateModelConfig in its core."""
    faults = []
    most, batching = config.max_batch_size, config.dynamic_batching
    if most < 0:
        faults.append(fault("max_batch_size", "is negative", most, "give 0 or more"))
    for size in batching.preferred_batch_size:
        if not 1 <= size <= most:
            faults.append(
                fault("preferred_batch_size", "is no possible size", size, f"give 1 to max_batch_size {most}")
            )
    levels, level = batching.priority_levels, batching.default_priority_level
    if levels and not 1 <= level <= levels:
        faults.append(fault("default_priority_level", "is no level", level, f"give 1 to priority_levels {levels}"))
    for level in batching.priority_queue_policy:
        if levels and not 1 <= level <= levels:
            faults.append(
                fault("priority_queue_policy", "is of no level", level, f"give 1 to priority_levels {levels}")
            )
    return faults


def _by_instances(config: ModelConfig, settings: Settings) -> Settings:
    """Each instance has its share of the worker's cores, and one at least: the same for the instances of a Triton.

    Where another server runs the graphs, the cores of this one bound nothing.
    """
    count = sum(max(1, group.count) for group in config.instance_group)
    if settings.runners or settings.triton_graphs or not count:
        return settings
    return dataclasses.replace(settings, runners=count * max(1, share_of_cores(settings.workers) // count))


def _limits(config: ModelConfig) -> Limits:
    batching = config.dynamic_batching
    return Limits(
        across=config.HasField("dynamic_batching"),
        preferred=tuple(batching.preferred_batch_size),
        delay=batching.max_queue_delay_microseconds * MICROSECONDS,
        levels=batching.priority_levels,
        level=batching.default_priority_level,
        policy=_queue(batching.default_queue_policy) if batching.HasField("default_queue_policy") else ANY_WAIT,
        policies={level: _queue(own) for level, own in batching.priority_queue_policy.items()},
    )


def _queue(asked: ModelQueuePolicy) -> QueuePolicy:
    return QueuePolicy(
        timeout=asked.default_timeout_microseconds * MICROSECONDS or None,
        override=asked.allow_timeout_override,
        reject=asked.timeout_action == ModelQueuePolicy.REJECT,
        capacity=asked.max_queue_size or None,
    )


def _beyond(message: Message, path: str) -> Iterator[str]:
    """The paths of what is set and not honoured."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if here in HONOURED:
            continue
        parts: Any = value if field.is_repeated else [value]
        if field.message_type and any(known.startswith(f"{here}.") for known in HONOURED):
            for part in parts:
                yield from _beyond(part, here)
        else:
            yield here
