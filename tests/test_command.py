"""The command ``downstream``: one word per stage, each imported only when it is asked for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path
from types import SimpleNamespace

import pytest

import downstream

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``main`` sets variables and a signal handler for its process; here they are put back."""
    monkeypatch.setenv("TQDM_MININTERVAL", "0.1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(params=list(downstream.STAGES))
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def helped(stage: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        downstream.main([stage, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_help_names_every_stage_and_the_whole_line(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["-h"]):
        assert downstream.main(argv) == 0
        said = capsys.readouterr().out
        for word, (_, _, text) in downstream.STAGES.items():
            assert re.search(rf"^  {word} +{re.escape(text)}$", said, re.MULTILINE)


def test_no_word_at_all_is_a_mistake_and_gets_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert downstream.main([]) == 2
    assert "usage: downstream STAGE" in capsys.readouterr().out


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert downstream.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("downstream")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(
    given: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen: list[str | None] = []
    stage = SimpleNamespace(main=lambda words: seen.append(os.environ.get("GOMP_SPINCOUNT")) or 0)
    monkeypatch.setattr(downstream, "import_module", lambda name: stage)
    assert downstream.main(["finetune"]) == 0
    assert seen == [found]


@pytest.mark.parametrize("word", ["finetun", "--verbose", ""])
def test_an_unknown_stage_is_told_with_the_known_ones(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert downstream.main([word]) == 2
    told = capsys.readouterr().err
    assert f"unknown stage {word!r}" in told
    assert all(known in told for known in downstream.STAGES)


def test_the_installed_command_is_this_one() -> None:
    (command,) = [point for point in entry_points(group="console_scripts") if point.name == "downstream"]
    assert command.load() is downstream.main


def test_every_stage_has_help_with_its_own_name(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert helped(stage, capsys).startswith(f"usage: downstream {stage} ")


def test_the_options_of_every_example_exist(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(stage, capsys)
    usage, _, _ = text.partition("examples:")
    declared = set(OPTION.findall(usage))
    examples = [line for line in [*text.splitlines(), *downstream.HELP.splitlines()] if f"downstream {stage} " in line]
    assert stage == "demo" or len(examples) >= 3
    for line in examples:
        assert set(OPTION.findall(line)) <= declared, line


def test_a_stage_is_given_its_words_and_its_exit_code_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def imported(name: str) -> SimpleNamespace:
        return SimpleNamespace(main=lambda argv: asked.append((name, argv)) or 3)

    monkeypatch.setattr(downstream, "import_module", imported)
    assert downstream.main(["export", "runs/a", "--to", "onnx"]) == 3
    assert asked == [("export.__main__", ["runs/a", "--to", "onnx"])]


def test_ctrl_c_in_any_stage_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(downstream, "import_module", lambda name: SimpleNamespace(main=interrupted))
    assert downstream.main(["export", "runs/a"]) == 130
    assert capsys.readouterr().err == "downstream export: interrupted\n"


def test_sigterm_ends_a_stage_that_does_not_handle_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the stage is still being imported."""

    def imported(name: str) -> SimpleNamespace:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("was not ended")

    monkeypatch.setattr(downstream, "import_module", imported)
    with pytest.raises(SystemExit) as caught:
        downstream.main(["export", "runs/a"])
    assert caught.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("stage", "missing", "extra"),
    [
        ("finetune", "transformers", "finetune"),
        ("export", "transformers", "export"),
        ("triton-validate", "onnx", "export"),
        ("serve", "uvloop", "serve"),
        ("predict", "tqdm", "serve"),
        ("bundle", "rich", "bundle"),
        ("loadtest", "rich", "loadtest"),
        ("demo", "numpy", "demo"),
    ],
)
def test_a_missing_package_is_told_with_the_extra_that_has_it(
    stage: str,
    missing: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    # All of the stage is imported anew, whatever other tests have imported of it.
    own = downstream.STAGES[stage][0].split(".")[0]
    for name in [name for name in sys.modules if name.split(".")[0] in (missing, own)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    # The settings of serve can be read without what it needs to run.
    assert downstream.main([stage, str(tmp_path) if stage == "serve" else "--help"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"downstream {stage}: {missing}")
    assert "is not installed" in told
    assert f"pip install 'downstream[{extra}]'" in told


def test_help_needs_nothing_but_python() -> None:
    """``-S`` leaves out everything that was installed."""
    script = "import sys, downstream; code = downstream.main(['--help']); sys.exit(code or 'numpy' in sys.modules)"
    command = [sys.executable, "-S", "-c", script]
    result = subprocess.run(command, cwd=downstream.__file__.rpartition("/")[0], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "usage: downstream" in result.stdout


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bars_in_a_log_file_are_rare(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.delenv("TQDM_MININTERVAL")
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal, write=print, flush=lambda: None))
    monkeypatch.setattr(downstream, "import_module", lambda name: SimpleNamespace(main=lambda argv: 0))
    downstream.main(["export"])
    assert ("TQDM_MININTERVAL" in downstream.os.environ) is not terminal
