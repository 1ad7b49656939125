from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench import stages
from tests.serving.bundles import write_bundle


def test_every_stage_of_a_request_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path, backend="onnxruntime")
    assert stages.main([str(tmp_path / "intent"), "--rounds", "2", "--text", "I want my money back"]) == 0
    told = capsys.readouterr().out
    assert "one row of 22 tokens" in told
    for stage in ("parse HTTP JSON", "parse gRPC", "encode", "session", "decode", "render HTTP JSON", "render gRPC"):
        assert stage in told


def test_folder_without_a_version_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stages.main([str(tmp_path)]) == 2
    assert f"stages: {tmp_path} has no version" in capsys.readouterr().err
