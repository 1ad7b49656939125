"""Installing the real Triton server where it cannot be had: the reason is kept, and tried again where that may help."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from tests.triton import install


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ((platform, "machine", lambda: "aarch64"), "built for linux on x86_64, this is linux on aarch64"),
        ((sys, "version_info", (3, 12, 1)), "set up for Python 3.11, this is 3.12"),
        ((platform, "libc_ver", lambda: ("glibc", "2.31")), "glibc 2.35 or later, this is glibc 2.31"),
        ((platform, "libc_ver", lambda: ("", "")), "glibc 2.35 or later, this is another C library"),
        ((install, "loads", lambda library: False), "libpython3.11.so.1.0, which this Python comes without"),
    ],
)
@pytest.mark.skipif(install.unsupported() is not None, reason="says something else here")
def test_where_it_cannot_run_the_reason_is_left_for_good(
    patch: tuple, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(*patch)
    install.main([str(tmp_path / "triton")])
    assert (tmp_path / "triton" / "absent").read_text("utf-8").endswith(reason)
    assert (tmp_path / "triton" / ".installed").exists()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(reason)


def test_perf_analyzer_is_absent_with_the_server(tmp_path: Path) -> None:
    (tmp_path / "absent").write_text("no network", "utf-8")
    install.main([str(tmp_path), "--perf-analyzer"])
    assert "no network" in (tmp_path / "perf_analyzer.absent").read_text("utf-8")


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise install.Failed("no network")

    install.settle(tmp_path, "perf_analyzer", None, fail)
    assert (tmp_path / "perf_analyzer.absent").read_text("utf-8") == "no network"
    assert not (tmp_path / ".perf_analyzer").exists()

    install.settle(tmp_path, "perf_analyzer", None, lambda folder: None)
    assert not (tmp_path / "perf_analyzer.absent").exists()
    assert (tmp_path / ".perf_analyzer").exists()
