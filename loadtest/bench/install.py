"""Make the environment of a peer: ``python -m loadtest.bench.install mosec``. `make bench` calls it.

Where that fails, ``.venv-peers/NAME/absent`` holds the reason, which the bench tells; the next call tries
again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence

from loadtest.bench.launch import PEERS, ROOT

PINS = ROOT / "constraints-peers.txt"
WHAT = {name: name for name in ("mosec", "litserve", "bentoml", "mlserver")} | {"ray": "ray[serve]"}
BESIDE = ("onnxruntime", "tokenizers", "numpy")


def pins_of(name: str, pins: str) -> list[str]:
    """The lines of one section of constraints-peers.txt. Raises KeyError where there is none."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in pins.splitlines():
        if line.startswith("# [") and line.endswith("]"):
            current = sections.setdefault(line[3:-1], [])
        elif line.strip() and not line.startswith("#"):
            current.append(line)
    return sections[name]


def install(name: str) -> str:
    """Install a peer; why that failed, or an empty text."""
    folder = PEERS / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True, symlinks=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins_of(name, PINS.read_text("utf-8"))) + "\n", "utf-8")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    command = [*pip, "--progress-bar", "off", "-c", str(constraints), WHAT[name], *BESIDE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode == 0:
        (folder / ".installed").touch()
        return ""
    faults = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    lack = f"cannot be installed: {(faults or ['pip failed'])[0][:200]}"
    (folder / "absent").write_text(lack, "utf-8")
    return lack


def main(argv: Sequence[str] | None = None) -> int:
    """Install the peers named on the command line; always 0, for the bench runs without them too."""
    for name in sys.argv[1:] if argv is None else argv:
        print(f"installing {name} into {(PEERS / name).relative_to(ROOT)} (pins: {PINS.name})", flush=True)
        lack = install(name)
        if lack:
            print(f"  {name} will be missing from the bench: {lack}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
