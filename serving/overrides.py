"""What a client gives with a load request instead of what lies in the repository (KServe v2 repository extension)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from serving.errors import InvalidInput, fault, shown

PREFIX = "file:"


@dataclass(frozen=True)
class Override:
    """A configuration as JSON, and the whole model directory as files by relative path; empty for what is not given.

    Raises InvalidInput for files without a configuration, and for a path that leaves the directory.
    """

    config: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.files and not self.config:
            raise InvalidInput("override files are given without 'config'; give the model's configuration as JSON too")
        for name in self.files:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
                raise InvalidInput(
                    fault(PREFIX + name, "is no path inside the model directory", name, "write as 1/model.onnx")
                )

    @contextmanager
    def folder(self, name: str, stored: Path) -> Iterator[Path]:
        """The model directory to load from: ``stored``, or the files in a temporary one."""
        if not self.files:
            yield stored
            return
        with tempfile.TemporaryDirectory(prefix="downstream-override-") as temporary:
            folder = Path(temporary) / name
            for relative, content in self.files.items():
                path = folder / relative
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                except OSError as error:  # a path that is too long, or a file where another path wants a folder
                    raise InvalidInput(f"{PREFIX}{shown(relative)} cannot be written: {error.strerror}") from None
            yield folder
