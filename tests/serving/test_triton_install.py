"""``downstream triton-backend install``: whole, replaceable, and without what Triton's interpreter has not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.triton_install import main

# Imports the installed backend as Triton does: its folder on the path, and none of the web packages to be had.
AS_TRITON = """
import sys
for name in ("fastapi", "starlette", "uvicorn", "grpc", "google", "tritonclient", "prometheus_client", "orjson"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import model, serving.engine
print(model.TritonPythonModel.__module__, serving.engine.__file__.startswith(sys.argv[1]))
"""


def test_installed_backend_runs_with_what_triton_s_interpreter_has(tmp_path: Path) -> None:
    assert main(["install", str(tmp_path)]) == 0
    command = [sys.executable, "-I", "-W", "error", "-c", AS_TRITON, str(tmp_path / "downstream")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "model True\n", done.stderr


def test_new_backend_replaces_the_old_one_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["install", str(tmp_path)])
    (tmp_path / "downstream" / "serving" / "left_over.py").touch()
    assert main(["install", str(tmp_path)]) == 0
    assert not (tmp_path / "downstream" / "serving" / "left_over.py").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["downstream"]
    said = capsys.readouterr().out
    assert "numpy onnxruntime tokenizers" in said
    assert f"missing:    {tmp_path / 'python'}" in said


def test_something_else_in_its_place_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "downstream").mkdir()
    (tmp_path / "downstream" / "mine").touch()
    assert main(["install", str(tmp_path)]) == 2
    assert "move it away" in capsys.readouterr().err
    assert (tmp_path / "downstream" / "mine").exists()
