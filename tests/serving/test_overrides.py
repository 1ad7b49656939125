"""Files of a load request: all of a model, inside its directory, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import InvalidInput
from serving.overrides import Override


def test_files_are_the_whole_model_directory_while_it_is_loaded(tmp_path: Path) -> None:
    override = Override("{}", {"1/model.onnx": b"graph", "1/assets/labels.json": b"[]"})
    with override.folder("m", tmp_path / "stored") as folder:
        assert folder.name == "m"
        assert (folder / "1" / "model.onnx").read_bytes() == b"graph"
        assert (folder / "1" / "assets" / "labels.json").read_bytes() == b"[]"
    assert not folder.exists()


def test_without_files_the_stored_directory_is_used(tmp_path: Path) -> None:
    with Override("{}").folder("m", tmp_path) as folder:
        assert folder == tmp_path
    assert tmp_path.exists()


@pytest.mark.parametrize("path", ["../1/model.onnx", "/etc/passwd", "1/../../x", "", ".", "1/\0"])
def test_path_that_leaves_the_directory_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="file:"):
        Override("{}", {path: b""})


def test_files_without_a_configuration_are_refused() -> None:
    with pytest.raises(InvalidInput, match="without 'config'"):
        Override("", {"1/model.onnx": b""})
