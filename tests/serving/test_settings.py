"""Settings: where they come from, what wins, and that every wrong one is told at once."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from serving.errors import InvalidInput
from serving.settings import PREFIX, Settings, add_arguments, available_cores, resolve, share_of_cores


def resolved(*argv: str, environ: Mapping[str, str] | None = None) -> Settings:
    command = argparse.ArgumentParser()
    add_arguments(command)
    return resolve(command.parse_args(argv), environ or {})


def toml(folder: Path, content: str) -> str:
    path = folder / "serve.toml"
    path.write_text(content, "utf-8")
    return str(path)


def test_nothing_given_is_the_defaults() -> None:
    assert resolved() == Settings()


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = toml(tmp_path, "capacity = 10\nrunners = 10\nmax_body = 10\n")
    environ = {"DOWNSTREAM_CAPACITY": "20", "DOWNSTREAM_RUNNERS": "20"}
    found = resolved("--config", file, "--capacity", "30", environ=environ)
    assert (found.capacity, found.runners, found.max_body) == (30, 20, 10)
    assert found.grpc_port == Settings().grpc_port


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_can_be_given_in_all_three_ways(setting: object, tmp_path: Path) -> None:
    name = setting.name  # type: ignore[attr-defined]
    given = {"host": "0.0.0.0", "log_level": "error", "model_control": "explicit", "allow_shared_memory": True}
    given |= {"triton_graphs": "triton:8001", "trace_file": "traces.json", "cache_dir": "/cache", "coalesce": True}
    given |= {"require_signature": "public.pem"}
    value = given.get(name, 7)
    quoted = f'"{value}"' if isinstance(value, str) else str(value).lower()
    option = "--" + name.replace("_", "-")
    ways = (
        resolved(option) if value is True else resolved(option, str(value)),
        resolved(environ={PREFIX + name.upper(): str(value)}),
        resolved("--config", toml(tmp_path, f"{name} = {quoted}")),
    )
    for found in ways:
        assert getattr(found, name) == value
        assert type(getattr(found, name)) is type(getattr(Settings(), name))


def test_all_wrong_values_and_unknown_keys_are_told_together(tmp_path: Path) -> None:
    file = toml(tmp_path, 'max_body = "much"\ncapcity = 5\n')
    with pytest.raises(InvalidInput) as caught:
        resolved("--config", file, "--max-waste", "little", environ={"DOWNSTREAM_HTTP_PORT": "http"})
    text = str(caught.value)
    assert text.startswith("4 faults")
    for name in ("max_body", "capcity", "--max-waste", "DOWNSTREAM_HTTP_PORT", "'much'", "'little'", "'http'"):
        assert name in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runners", "-1"),
        ("workers", "0"),
        ("workers", "-2"),
        ("capacity", "0"),
        ("http-port", "65536"),
        ("timeout", "0"),
        ("timeout", "nan"),
        ("max-waste", "0.5"),
        ("drain-timeout", "-1"),
        ("log-level", "loud"),
        ("runners", "1.5"),
    ],
)
def test_value_outside_its_range_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"^--{name}: .*{value}"):
        resolved(f"--{name}={value}")


@pytest.mark.parametrize("line", ["runners = 2.5", "runners = true", "host = 5", "timeout = []"])
def test_file_value_of_another_type_is_not_converted(line: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=line.split()[0]):
        resolved("--config", toml(tmp_path, line))


@pytest.mark.parametrize("content", [None, "capacity = = 5"])
def test_file_that_cannot_be_read_is_named(content: str | None, tmp_path: Path) -> None:
    file = str(tmp_path / "absent.toml") if content is None else toml(tmp_path, content)
    with pytest.raises(InvalidInput, match=f"{Path(file).name}: cannot be read"):
        resolved("--config", file)


def test_workers_share_the_cores_and_each_has_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.settings.read_available_cores", lambda: 8)
    assert [share_of_cores(workers) for workers in (1, 3, 8, 20)] == [8, 2, 1, 1]


@pytest.mark.parametrize(
    ("cpu_max", "affinity", "cores"),
    [
        (None, 8, 8),
        ("max 100000\n", 8, 8),
        ("200000 100000\n", 8, 2),
        ("250000 100000\n", 8, 2),
        ("50000 100000\n", 8, 1),
        ("1600000 100000\n", 4, 4),
    ],
)
def test_cores_are_the_affinity_cut_by_the_quota_of_the_cgroup(cpu_max: str | None, affinity: int, cores: int) -> None:
    assert available_cores(cpu_max, range(affinity)) == cores
