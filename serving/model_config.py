"""``config.pbtxt`` as Triton reads it: the real ModelConfig protobuf, and what this gateway honours of it."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.errors import BundleError

FILE = "config.pbtxt"
# Of a bundle; a repository may hold models of Triton's other backends beside them.
BACKEND = "downstream"


def parse(folder: Path) -> ModelConfig:
    """The configuration of a model directory as it is. Raises BundleError that names the line when it is not valid."""
    path = folder / FILE
    config = ModelConfig()
    try:
        text_format.Parse(path.read_text("utf-8"), config)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a Triton model configuration: {error}") from error
    return config


def read(folder: Path) -> ModelConfig:
    """The configuration of a model to serve. Raises BundleError when it is not valid or names another model."""
    config = parse(folder)
    if config.name and config.name != folder.name:
        raise BundleError(f"{folder / FILE}: name is {config.name!r}, the directory {folder.name!r}; make them equal")
    return config


def candidates(config: ModelConfig, available: list[int]) -> tuple[list[int], int]:
    """The versions that ``version_policy`` allows, newest first, and how many of them it wants served."""
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    allowed = set(available) & set(policy.specific.versions) if choice == "specific" else set(available)
    count = len(allowed) if choice in ("all", "specific") else max(1, policy.latest.num_versions)
    return sorted(allowed, reverse=True), count


def chosen_versions(config: ModelConfig, available: list[int]) -> list[int]:
    """The versions that ``version_policy`` wants served, of those there are; without one, the latest."""
    allowed, count = candidates(config, available)
    return sorted(allowed[:count])


def not_honoured(config: ModelConfig) -> list[str]:
    """What this gateway does not do of a configuration, for a warning at load."""
    ignored = ["response_cache", "sequence_batching", "ensemble_scheduling", "model_warmup", "optimization"]
    batching = config.dynamic_batching
    found = [name for name in ignored if _is_set(config, name)]
    found += ["instance_group (give --runners)" for group in config.instance_group if group.count > 1][:1]
    for name in ("preferred_batch_size", "max_queue_delay_microseconds", "priority_levels", "priority_queue_policy"):
        if getattr(batching, name):
            found.append(f"dynamic_batching.{name}")
    return found


def _is_set(config: ModelConfig, name: str) -> bool:
    value = getattr(config, name)
    return config.HasField(name) if hasattr(value, "DESCRIPTOR") else bool(value)


def queue_capacity(config: ModelConfig) -> int | None:
    """Rows that may wait, if ``dynamic_batching.default_queue_policy.max_queue_size`` bounds them."""
    size = config.dynamic_batching.default_queue_policy.max_queue_size
    return size or None
