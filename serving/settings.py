"""How a server runs: one declaration per setting; command line over environment over file over default."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from serving.errors import InvalidInput, fault, listed

PREFIX = "DOWNSTREAM_"


def _setting(
    default: Any, help: str, least: float = 0, most: float = inf, choices: Sequence[str] = (), per_model: bool = False
) -> Any:
    known = {"help": help, "least": least, "most": most, "choices": choices, "per_model": per_model}
    return field(default=default, metadata=known)


@dataclass(frozen=True)
class Settings:
    """The settings of one server, frozen and unpacked at the door.

    Those that are ``per_model`` may also stand among the ``parameters`` of a model's ``config.pbtxt``.
    """

    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 for all")
    http_port: int = _setting(8000, "port of REST, metrics and docs; 0 picks a free one", most=65535)
    grpc_port: int = _setting(8001, "port of gRPC; 0 picks a free one", most=65535)
    workers: int = _setting(
        1,
        "processes that answer on these ports, each with every model in its memory and its share of the cores; more "
        "than 1 pay where models are small and cores many, since Python's event loop fills one core",
        least=1,
    )
    runners: int = _setting(
        0, "threads of each worker that run graphs; 0 means one per core that the worker may use", per_model=True
    )
    capacity: int = _setting(
        2048, "rows that may wait per model and worker; more are refused at once", least=1, per_model=True
    )
    max_batch_tokens: int = _setting(256, "padded tokens of one batch, at most", least=1, per_model=True)
    max_waste: float = _setting(
        1.5, "largest share of attention spent on padding, as B*Lmax^2 / sum of L^2", least=1, per_model=True
    )
    batch_gain: float = _setting(
        0.05, "share of its own predicted run time that a row must save to join a batch", per_model=True
    )
    stretch: float = _setting(
        2.0,
        "multiple of its predicted run time for which later rows may run before a row; inf: order of arrival",
        per_model=True,
    )
    coalesce: bool = _setting(True, "compute rows that are equal and in flight at the same time once", per_model=True)
    warm_up: float = _setting(0.15, "seconds at load for measuring what runs cost, where that is not known yet")
    cache_dir: str = _setting(
        "auto",
        "folder that keeps what was measured; auto: downstream in $XDG_CACHE_HOME or in ~/.cache; '' keeps nothing",
    )
    cache_bytes: int = _setting(
        64 * 2**20, "memory for kept answers, of each model whose config.pbtxt enables response_cache", per_model=True
    )
    model_control: str = _setting(
        "none", "explicit lets clients load and unload models; none refuses", choices=("none", "explicit")
    )
    triton_graphs: str = _setting(
        "", "HOST:PORT[/MODEL]: a Triton server that runs the graphs, over gRPC; MODEL is {name}_graph if not given"
    )
    require_signature: str = _setting(
        "",
        "PEM file with a public key: only versions whose model.sig was made with its private half are served; a pair: "
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem; "
        "openssl pkey -in private.pem -pubout -out public.pem",
    )
    allow_shared_memory: bool = _setting(False, "let clients on this machine pass tensors in /dev/shm")
    trace_file: str = _setting(
        "", "file for traces of requests, written anew once a client turns them on with trace_level"
    )
    timeout: float = _setting(30.0, "seconds until a request without a deadline of its own expires", least=0.001)
    max_body: int = _setting(64 * 2**20, "bytes of one request body", least=1)
    drain_delay: float = _setting(0.0, "seconds between SIGTERM and closing the ports, not ready but still serving")
    drain_timeout: float = _setting(25.0, "seconds that requests in flight are given to finish")
    log_level: str = _setting("info", "debug, info, warning or error", choices=("debug", "info", "warning", "error"))


def add_arguments(command: argparse.ArgumentParser) -> None:
    """An option for every setting, and ``--config FILE``."""
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML file with any of these settings")
    for setting in fields(Settings):
        option = "--" + setting.name.replace("_", "-")
        default = setting.default if setting.default != "" else "none"
        text = f"{setting.metadata['help']} (default {default}; {PREFIX}{setting.name.upper()})"
        if type(setting.default) is bool:
            command.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            command.add_argument(option, metavar=type(setting.default).__name__.upper(), help=text)


def resolve(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings of a parsed command line. Raises InvalidInput that lists every wrong value and unknown key."""
    faults: list[str] = []
    values = _from_file(args.config, faults) if args.config else {}
    for setting in fields(Settings):
        variable = PREFIX + setting.name.upper()
        option = "--" + setting.name.replace("_", "-")
        for source, raw in ((variable, environ.get(variable)), (option, getattr(args, setting.name))):
            if raw is not None:
                values[setting.name] = (source, raw)
    typed: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.name in values:
            _take(setting, *values[setting.name], typed, faults)
    if faults:
        raise InvalidInput(listed(faults))
    return Settings(**typed)


def for_model(settings: Settings, parameters: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings of one model, and the parameters of its configuration that are none.

    Raises InvalidInput that lists every wrong value.
    """
    known = {setting.name: setting for setting in fields(Settings) if setting.metadata["per_model"]}
    typed: dict[str, Any] = {}
    faults: list[str] = []
    for name in parameters.keys() & known.keys():
        _take(known[name], f"parameters {name}", parameters[name], typed, faults)
    if faults:
        raise InvalidInput(listed(sorted(faults)))
    return replace(settings, **typed), sorted(parameters.keys() - known.keys())


def _take(setting: Field[Any], source: str, raw: Any, typed: dict[str, Any], faults: list[str]) -> None:
    try:
        typed[setting.name] = _value(setting, raw)
    except ValueError as error:
        faults.append(fault(source, "wrong value", raw, f"give {error}: {setting.metadata['help']}"))


def _value(setting: Field[Any], raw: Any) -> Any:
    """A setting's value from text, or from TOML as it is typed there. Raises ValueError that says what is wanted."""
    kind: type = type(setting.default)
    least, most = setting.metadata["least"], setting.metadata["most"]
    if kind is str:
        choices = setting.metadata["choices"]
        if not isinstance(raw, str) or (choices and raw not in choices):
            raise ValueError("one of these" if choices else "a text")
        return raw
    if kind is bool:
        named = {"true": True, "1": True, "false": False, "0": False}
        if str(raw).lower() not in named:
            raise ValueError("true or false")
        return named[str(raw).lower()]
    wanted = f"{kind.__name__} of at least {least}" + (f" and at most {most}" if most < inf else "")
    if not isinstance(raw, str) and type(raw) not in (kind, int):
        raise ValueError(wanted)
    try:
        value = kind(raw)
    except ValueError:
        raise ValueError(wanted) from None
    # Written so that NaN is no value.
    if not least <= value <= most:
        raise ValueError(wanted)
    return value


def _from_file(path: Path, faults: list[str]) -> dict[str, tuple[str, Any]]:
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        faults.append(f"{path}: cannot be read: {error}; give a TOML file")
        return {}
    known = [setting.name for setting in fields(Settings)]
    for name in found.keys() - set(known):
        faults.append(fault(f"{path}: {name}", "unknown setting", found[name], f"the settings are {', '.join(known)}"))
    return {name: (f"{path}: {name}", value) for name, value in found.items() if name in known}


def available_cores(cpu_max: str | None, affinity: Sequence[int]) -> int:
    """Cores that this process may really use: its affinity, cut by the quota of its cgroup.

    ``cpu_max`` is the content of cgroup v2's ``cpu.max`` ("quota period" in microseconds, or "max period").
    """
    cores = len(affinity)
    if cpu_max and not cpu_max.startswith("max"):
        quota, period = map(int, cpu_max.split())
        cores = min(cores, max(1, quota // period))
    return cores


def read_available_cores() -> int:
    """available_cores of this process now."""
    return available_cores(_cpu_max(Path("/sys/fs/cgroup")), sorted(os.sched_getaffinity(0)))


def cores_explained() -> str:
    """Where the number of available cores comes from, for people."""
    cpu_max, affinity = _cpu_max(Path("/sys/fs/cgroup")), len(os.sched_getaffinity(0))
    quota = "none" if cpu_max is None or cpu_max.startswith("max") else f"{cpu_max.replace(' ', ' us in each ')} us"
    return f"this process may run on {affinity} of {os.cpu_count()} cores; quota of its cgroup: {quota}"


def share_of_cores(workers: int) -> int:
    """The cores that each of several workers may count on, one at least."""
    return max(1, read_available_cores() // workers)


def _cpu_max(cgroup: Path) -> str | None:
    """The quota as cgroup v2 writes it; the two files of cgroup v1 are put together to the same text."""
    if (cgroup / "cpu.max").is_file():
        return (cgroup / "cpu.max").read_text("utf-8")
    quota, period = (cgroup / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
    if not quota.is_file() or not period.is_file():
        return None
    microseconds = quota.read_text("utf-8").strip()
    return f"{'max' if microseconds == '-1' else microseconds} {period.read_text('utf-8').strip()}"
