"""``make fuzz``: the binary decoder under atheris (libFuzzer), for SECONDS or until it finds something."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["serving", "tests.fuzz"]):
    from tests.fuzz.binary_decoder import corpus, target

with tempfile.TemporaryDirectory() as folder:
    for number, content in enumerate(corpus()):
        (Path(folder) / str(number)).write_bytes(content)
    atheris.Setup([*sys.argv, "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", folder], target)
    atheris.Fuzz()
