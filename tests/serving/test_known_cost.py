"""Costs of a loaded model: measured once, kept beside other caches, believed where a run agrees, corrected by runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving import cost_file
from serving.bundle import open_bundle
from serving.cost import CostModel, Learner
from serving.engine import Engine
from serving.settings import Settings
from tests.serving.bundles import write_bundle
from tests.serving.held_backend import PATIENCE


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose cache folder is used, although that of all other tests is another one."""
    monkeypatch.setattr("serving.cost_file.folder", lambda cache_dir, environ: Path(cache_dir) if cache_dir else None)
    return Settings(runners=1, cache_dir=str(tmp_path / "cache"))


def loaded(folder: Path, settings: Settings) -> tuple[str, CostModel]:
    """Where the costs of a bundle came from, and what they were, at one start."""
    engine = Engine.load(open_bundle(folder), settings)
    found = engine.known_cost.source, engine.cost
    engine.close()
    return found


def kept(settings: Settings) -> list[Path]:
    return sorted(Path(settings.cache_dir).rglob("*.json"))


def test_second_start_knows_what_the_first_one_measured(tmp_path: Path, settings: Settings) -> None:
    folder = write_bundle(tmp_path / "models", delay=0.001)
    before = sorted(folder.rglob("*"))
    source, measured = loaded(folder, settings)
    assert source == "measured at this start"
    (file,) = kept(settings)
    assert loaded(folder, settings) == (f"measured before, from {file}", measured)
    assert sorted(folder.rglob("*")) == before, "nothing is written into the repository"


def test_other_files_and_other_runners_have_costs_of_their_own(tmp_path: Path, settings: Settings) -> None:
    loaded(write_bundle(tmp_path / "models"), settings)
    loaded(write_bundle(tmp_path / "others", delay=0.001), settings)
    loaded(tmp_path / "models" / "intent" / "1", replace(settings, runners=2))
    assert len(kept(settings)) == 3


def test_costs_that_a_run_does_not_agree_with_are_measured_anew(tmp_path: Path, settings: Settings) -> None:
    folder = write_bundle(tmp_path / "models", delay=0.001)
    loaded(folder, settings)
    (file,) = kept(settings)
    cost_file.write(file, CostModel(base=10.0, token=0.0, square=0.0))
    source, cost = loaded(folder, settings)
    assert source == "measured at this start"
    assert cost(1, 8) < 1


def test_nothing_is_kept_where_there_is_no_folder(tmp_path: Path, settings: Settings) -> None:
    folder = write_bundle(tmp_path / "models")
    for _ in range(2):
        source, _ = loaded(folder, replace(settings, cache_dir=""))
        assert source == "measured at this start"
    assert kept(settings) == []


def test_folder_that_cannot_be_used_fails_nothing(tmp_path: Path, settings: Settings) -> None:
    Path(settings.cache_dir).write_text("a file")
    assert loaded(write_bundle(tmp_path / "models"), settings)[0] == "measured at this start"


def test_runs_correct_the_costs_and_the_next_start_begins_with_what_was_measured(
    tmp_path: Path, settings: Settings
) -> None:
    engine = Engine.load(open_bundle(write_bundle(tmp_path / "models", delay=0.001)), settings)
    before = engine.cost
    for _ in range(Learner.EVERY):
        engine.submit({"text": "hello"}).result(PATIENCE)
    engine.close()
    assert engine.cost != before
    (file,) = kept(settings)
    assert cost_file.read(file) == before
