"""Torch on one thread, no hub, and one small trained checkpoint for everything that only reads one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports huggingface_hub, which reads it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from finetune.__main__ import main
from tests.finetune import toy

# Rows that a careless reader, writer or page would break on; the first two are mislabelled, so the report shows them.
AWKWARD = [
    {"text": "<script>alert(1)</script> http://evil.example/x.js sun warm gold bright", "label": toy.BAD},
    {"text": 'rain cold dark "storm" & fog &amp; grey', "label": toy.GOOD},
    {"text": "sun \u2028 warm \u0085 gold", "label": toy.GOOD},
    {"text": "雨 rain cold 🌧️ dark", "label": toy.BAD},
]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that share a tiny matrix cost more than they give, on a busy machine fifty times as much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the toy recipe, with awkward rows in its validation split. Read only."""
    folder = tmp_path_factory.mktemp("toy")
    assert main([str(toy.prepare(folder, validation=AWKWARD))]) == 0
    return folder / "run"
