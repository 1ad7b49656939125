"""A model that answers with the texts it was given, for tests of what is around a model."""

from __future__ import annotations

from pathlib import Path

from tests.triton_server import backends_folder

CONFIG = """
backend: "echo"
max_batch_size: 8
input { name: "text" data_type: TYPE_STRING dims: 1 }
output { name: "echo" data_type: TYPE_STRING dims: 1 }
instance_group { kind: KIND_CPU }
"""


def echo_repository(folder: Path, name: str = "echo") -> Path:
    """Make a model repository with one model; one whose name begins with ``broken`` cannot be loaded."""
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(CONFIG, "utf-8")
    return folder


def echo_backend(folder: Path) -> Path:
    """Make a folder of backends with the one of that model."""
    (backends_folder(folder) / "echo").symlink_to(Path(__file__).with_name("echo"))
    return folder
