"""A repository that serves what another one admitted: proved once, the same in both, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from serving import proof
from serving.admission import Admission
from serving.errors import BundleError, NotFound
from serving.follower import Follower
from serving.metrics import Metrics
from serving.overrides import Override
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import write_bundle

Start = Callable[[], Repository]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Repositories over one folder, as in several workers."""
    begun: list[Repository] = []

    def one() -> Repository:
        begun.append(Repository(tmp_path, Settings(runners=1, workers=2), Metrics(CollectorRegistry())))
        return begun[-1]

    yield one
    for repository in begun:
        repository.close()


@pytest.fixture
def leader(start: Start) -> Repository:
    return start()


@pytest.fixture
def follower(start: Start, leader: Repository) -> Repository:
    repository = start()
    leader.followers = Follower(repository)
    return repository


def same(leader: Repository, follower: Repository) -> bool:
    told = [
        (r.index(), r.ready, {name: list(found) for name, found in r.engines().items()}) for r in (leader, follower)
    ]
    return told[0] == told[1]


def test_golden_rows_are_replayed_where_a_version_is_admitted_and_nowhere_else(
    tmp_path: Path, leader: Repository, follower: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path)
    replayed: list[object] = []
    monkeypatch.setattr(proof, "replay_golden", lambda model, bundle: replayed.append(model))
    leader.load_all()
    assert len(replayed) == 1
    assert follower.get("intent").cost == leader.get("intent").cost
    assert same(leader, follower)


def test_what_is_loaded_reloaded_and_unloaded_is_the_same_in_both(
    tmp_path: Path, leader: Repository, follower: Repository
) -> None:
    write_bundle(tmp_path)
    write_bundle(tmp_path, "broken", wrong_golden=True)
    leader.load_all()
    assert same(leader, follower)
    old = follower.get("intent")
    leader.load("intent", Override('{"backend": "downstream", "max_batch_size": 2}'))
    assert follower.get("intent") is not old
    assert not old.enter()
    assert follower.config("intent").max_batch_size == leader.config("intent").max_batch_size == 2
    leader.unload("intent")
    assert same(leader, follower)
    with pytest.raises(NotFound, match="unloaded"):
        follower.get("intent")


def test_version_that_a_follower_cannot_open_serves_in_neither(
    tmp_path: Path, leader: Repository, follower: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path)
    leader.load_all()
    before = leader.get("intent"), follower.get("intent")

    def refused(admission: Admission) -> None:
        raise BundleError("no memory for it in this worker")

    monkeypatch.setattr(follower, "open_admitted", refused)
    with pytest.raises(BundleError, match="no memory for it in this worker"):
        leader.load("intent")
    assert (leader.get("intent"), follower.get("intent")) == before
    assert same(leader, follower)
    assert "no memory" in leader.index()[0].reason


def test_newcomer_is_brought_to_the_same_with_the_files_of_requests(
    tmp_path: Path, leader: Repository, start: Start
) -> None:
    guest = write_bundle(tmp_path / "elsewhere", "guest")
    files = {
        f"1/{path.relative_to(guest).as_posix()}": path.read_bytes() for path in guest.rglob("*") if path.is_file()
    }
    write_bundle(tmp_path)
    leader.load_all()
    leader.load("guest", Override('{"backend": "downstream", "max_batch_size": 4}', files))
    newcomer, welcomed = start(), []
    leader.introduce(Follower(newcomer), lambda: welcomed.append(True))
    assert welcomed
    assert same(leader, newcomer)
    engines = newcomer.engines()
    leader.introduce(Follower(newcomer), lambda: None)
    assert newcomer.engines() == engines


def test_newcomer_refuses_files_that_are_not_those_which_were_verified(
    tmp_path: Path, leader: Repository, start: Start
) -> None:
    write_bundle(tmp_path)
    leader.load_all()
    write_bundle(tmp_path / "new", labels=("no", "yes"))
    (tmp_path / "intent").rename(tmp_path / "old")
    (tmp_path / "new" / "intent").rename(tmp_path / "intent")
    newcomer, welcomed = start(), []
    with pytest.raises(BundleError, match="is not what was verified"):
        leader.introduce(Follower(newcomer), lambda: welcomed.append(True))
    assert not welcomed
    assert not newcomer.engines()


def test_what_a_leader_staged_and_never_admitted_is_closed(tmp_path: Path, leader: Repository, start: Start) -> None:
    write_bundle(tmp_path)
    leader.load_all()
    (admission,) = leader.admitted.values()
    repository = start()
    follower = Follower(repository)
    follower.stage(admission)
    (staged,) = repository.admitted
    follower.follow(repository.state())
    assert not staged.enter()
    assert not repository.admitted
