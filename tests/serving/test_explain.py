"""``downstream serve --explain``: every model is loaded and told of; the exit code says whether all are well."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving import processor
from serving.__main__ import main
from tests.serving.bundles import write_bundle


def explained(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    code = main([str(folder), "--explain", *options])
    return code, capsys.readouterr().out


def test_model_is_told_with_its_costs_limits_runners_and_capacity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path, delay=0.005)
    code, out = explained(tmp_path, capsys, "--runners", "3", "--stretch", "7")
    assert code == 0
    for part in ("model intent version 1", "measured at this start", "runners         3: the setting", "7 times"):
        assert part in out
    assert "at most 4 rows, 256 padded tokens" in out
    assert "rows/s of 64 tokens, 4 at once" in out, "a run costs what it costs, however many rows it has"


def test_it_is_told_why_rows_run_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path, max_batch_size=0)
    code, out = explained(tmp_path, capsys)
    assert code == 0
    assert "rows run alone: max_batch_size" in out
    assert "cores; quota of its cgroup" in out


def test_it_is_told_what_the_processor_lacks_and_what_is_done_about_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "read", lambda: processor.Processor("Some CPU", "x86_64", frozenset()))
    write_bundle(tmp_path, "dense", backend="onnxruntime", stated={"needs": ["vnni"]})
    write_bundle(tmp_path, "plain", backend="onnxruntime")
    code, out = explained(tmp_path, capsys)
    assert code == 0
    dense, plain = out.split("model plain version 1")
    assert "instructions    8-bit weights would overflow on this CPU (no VNNI): runs in the precise mode" in dense
    assert "instructions" not in plain


def test_model_that_does_not_load_is_told_beside_the_others_and_the_exit_code_is_not_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path, "broken", wrong_golden=True)
    write_bundle(tmp_path, "fine")
    code, out = explained(tmp_path, capsys)
    assert code == 1
    assert "model broken does not load: " in out
    assert "model fine version 1" in out


def test_folder_without_models_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = explained(tmp_path, capsys)
    assert code == 1
    assert "no model that is served here" in out
