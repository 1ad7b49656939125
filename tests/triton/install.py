"""Make the folder of the real Triton server: the server, the environment its Python backend runs in, perf_analyzer.

    python tests/triton/install.py .venv-triton
    python tests/triton/install.py .venv-triton --perf-analyzer

`make` calls it. What cannot be had here leaves a file with the reason, which the tests skip with: ``absent`` or
``perf_analyzer.absent``. Where another try could help, such as after a lost network, no stamp is left, so that `make`
tries again.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

PINS = Path(__file__).parents[2] / "constraints-triton.txt"
PYTHON = (3, 11)
GLIBC = (2, 35)
MODEL_PACKAGES = ("numpy", "onnxruntime", "tokenizers")
# The last release that has the binary in it; it runs against any server.
PERF_ANALYZER = "tritonclient==2.40.0"


class Failed(Exception):
    """Something that may succeed when it is tried again."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--perf-analyzer", action="store_true")
    options = parser.parse_args(argv)
    if options.perf_analyzer:
        settle(options.folder, "perf_analyzer", lacks_server(options.folder), install_perf_analyzer)
    else:
        shutil.rmtree(options.folder, ignore_errors=True)
        settle(options.folder, "", unsupported(), install_server)


def settle(folder: Path, what: str, lack: str | None, install: Callable[[Path], None]) -> None:
    """Install, or say why not; the stamp is written last, and only if another try would end in the same way."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / (f"{what}.absent" if what else "absent")
    marker.unlink(missing_ok=True)
    stamp = folder / (f".{what}" if what else ".installed")
    try:
        if lack is None:
            install(folder)
        stamp.touch()
    except Failed as error:
        lack = str(error)
    if lack is not None:
        marker.write_text(lack, "utf-8")
        print(f"no {what or 'real Triton server'}, so the tests that need it are skipped: {lack}")


def unsupported() -> str | None:
    """Why the server cannot run here, or None."""
    here = (sys.platform, platform.machine())
    if here != ("linux", "x86_64"):
        return f"it is built for linux on x86_64, this is {here[0]} on {here[1]}"
    if sys.version_info[:2] != PYTHON:
        return f"its Python backend is set up for Python {version(PYTHON)}, this is {version(sys.version_info[:2])}"
    name, found = platform.libc_ver()
    if name != "glibc" or tuple(map(int, found.split(".")[:2])) < GLIBC:
        return f"it needs glibc {version(GLIBC)} or later, this is {name or 'another C library'} {found}".rstrip()
    library = f"libpython{version(PYTHON)}.so.1.0"
    if not any(loads(path) for path in (f"{sysconfig.get_config_var('LIBDIR')}/{library}", library)):
        return f"its Python backend needs {library}, which this Python comes without"
    return None


def version(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def install_server(folder: Path) -> None:
    """The environment of the models, the server in it, and the folder of backends."""
    print(f"installing a real Triton server into {folder} (pins: {PINS.name})")
    venv.create(folder, with_pip=True, symlinks=True)
    pip(folder, "install", *MODEL_PACKAGES)
    pip(folder, "install", "--no-deps", "nvidia-pytriton")
    server = site_packages(folder) / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    stub = server / "python_backend_stubs" / version(PYTHON) / "triton_python_backend_stub"
    for program in (Path(shutil.copy(stub, backend)), server / "bin" / "tritonserver"):
        program.chmod(0o755)


def lacks_server(folder: Path) -> str | None:
    marker = folder / "absent"
    return f"it uses libraries of the real Triton server; {marker.read_text('utf-8')}" if marker.exists() else None


def install_perf_analyzer(folder: Path) -> None:
    """The binary alone out of its wheel; the two libraries it needs beside the usual ones came with the server."""
    with tempfile.TemporaryDirectory() as downloads:
        pip(folder, "download", "--no-deps", "--dest", downloads, PERF_ANALYZER)
        (wheel,) = Path(downloads).iterdir()
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith("/bin/perf_analyzer"))
            program = folder / "perf_analyzer"
            program.write_bytes(archive.read(member))
            program.chmod(0o755)
    links = folder / "perf_analyzer.libs"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir()
    libraries = site_packages(folder) / "nvidia_pytriton.libs"
    for name, pattern in (("libb64.so.0d", "libb64-*.so.0d"), ("libcudart.so.12", "libcudart-*.so.12.*")):
        (library,) = libraries.glob(pattern)
        (links / name).symlink_to(library.resolve())


def site_packages(folder: Path) -> Path:
    return folder / "lib" / f"python{version(PYTHON)}" / "site-packages"


def pip(folder: Path, *arguments: str) -> None:
    """pip of the folder's environment, quiet unless it fails."""
    command = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", arguments[0]]
    options = ["--progress-bar=off", "-c", PINS, *arguments[1:]]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    if done.returncode:
        faults = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise Failed(f"pip {' '.join(arguments)}: {faults[0] if faults else done.stderr[-200:]}")


if __name__ == "__main__":
    main()
