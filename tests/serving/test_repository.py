"""Models of a directory: only what proves itself serves, the reason of the rest is told, and swaps lose no row."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import model_config
from serving.bundle import write_json
from serving.errors import BundleError, NotFound, NotReady
from serving.manifest import MANIFEST
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from tests.serving.bundles import LABELS, manifest_of, reseal, write_bundle
from tests.serving.held_backend import PATIENCE, HeldBackend

Sample = Callable[..., float | None]
ALL = "version_policy { all { } }"


def states(repository: Repository) -> dict[tuple[str, int], str]:
    return {(entry.name, entry.version): entry.state for entry in repository.index()}


def reason(repository: Repository, name: str, version: int) -> str:
    return next(entry.reason for entry in repository.index() if (entry.name, entry.version) == (name, version))


def label(repository: Repository, name: str = "intent", version: str = "") -> str:
    return str(repository.get(name, version).submit({"text": "hello"}).result(PATIENCE)["label"])


def test_every_model_of_the_directory_is_loaded_and_ready(repository: Repository, sample: Sample) -> None:
    write_bundle(repository.folder, "intent")
    write_bundle(repository.folder, "topic", 3, backend="onnxruntime")
    (repository.folder / "no model").mkdir()
    assert not repository.ready
    repository.load_all()
    assert repository.ready
    assert states(repository) == {("intent", 1): "READY", ("topic", 3): "READY"}
    assert label(repository) in LABELS
    assert label(repository, "topic", "3") in LABELS
    assert sample("downstream_model_ready", model="topic", version="3") == 1


def test_models_of_other_triton_backends_are_left_to_them(repository: Repository) -> None:
    write_bundle(repository.folder, "intent")
    for name, config in (("intent_graph", 'backend: "onnxruntime"'), ("all", 'platform: "ensemble"')):
        (repository.folder / name).mkdir()
        (repository.folder / name / model_config.FILE).write_text(config)
    repository.load_all()
    assert repository.ready
    assert states(repository) == {("intent", 1): "READY"}


def test_empty_directory_is_never_ready(repository: Repository) -> None:
    repository.load_all()
    assert repository.loaded
    assert not repository.ready


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"wrong_golden": True}, "golden"),
        ({"damaged": "model.json"}, "model.json was changed"),
        ({"golden": []}, "no golden rows"),
    ],
    ids=["wrong answers", "damaged file", "no proof"],
)
def test_model_that_does_not_prove_itself_is_quarantined(
    repository: Repository, sample: Sample, broken: dict[str, object], said: str
) -> None:
    write_bundle(repository.folder, "bad", **broken)  # type: ignore[arg-type]
    write_bundle(repository.folder, "good")
    repository.load_all()
    assert states(repository) == {("bad", 1): "UNAVAILABLE", ("good", 1): "READY"}
    assert said in reason(repository, "bad", 1)
    assert sample("downstream_quarantined_total", model="bad", version="1") == 1
    assert not repository.ready
    assert list(repository.engines()) == ["good"]
    assert label(repository, "good") in LABELS
    with pytest.raises(NotReady, match=said):
        repository.get("bad")


def test_server_with_nothing_but_a_quarantined_model_is_not_ready(repository: Repository) -> None:
    write_bundle(repository.folder, wrong_golden=True)
    repository.load_all()
    assert not repository.ready
    assert repository.engines() == {}
    assert repository.versions("intent") == []


@pytest.mark.parametrize("content", [b"max_batch_sise: 8", b"\xff\xfe"], ids=["unknown field", "not text"])
def test_configuration_that_cannot_be_read_is_in_the_index_and_stops_no_other_model(
    repository: Repository, content: bytes
) -> None:
    write_bundle(repository.folder, "bad")
    write_bundle(repository.folder, "good")
    (repository.folder / "bad" / model_config.FILE).write_bytes(content)
    repository.load_all()
    assert states(repository) == {("bad", 0): "UNAVAILABLE", ("good", 1): "READY"}
    assert model_config.FILE in reason(repository, "bad", 0)
    assert not repository.ready
    with pytest.raises(NotReady, match=model_config.FILE):
        repository.get("bad")


def test_mended_configuration_loads_and_its_fault_is_forgotten(repository: Repository) -> None:
    write_bundle(repository.folder)
    path = repository.folder / "intent" / model_config.FILE
    content = path.read_text()
    path.write_text("nonsense")
    repository.load_all()
    path.write_text(content)
    repository.load("intent")
    assert states(repository) == {("intent", 1): "READY"}
    assert repository.ready


def test_manifest_of_an_unknown_task_is_told_as_the_reason(repository: Repository) -> None:
    folder = write_bundle(repository.folder)
    reseal(folder, task="poetry")
    repository.load_all()
    assert "poetry" in reason(repository, "intent", 1)


@pytest.mark.parametrize(("policy", "served"), [("", [2]), (ALL, [1, 2])])
def test_versions_of_the_policy_serve_and_the_latest_is_the_default(
    repository: Repository, policy: str, served: list[int]
) -> None:
    write_bundle(repository.folder, version=1, labels=("old a", "old b"), config=policy)
    write_bundle(repository.folder, version=2, labels=("new a", "new b"), config=policy)
    repository.load_all()
    assert repository.versions("intent") == served
    assert label(repository).startswith("new")
    if 1 in served:
        assert label(repository, version="1").startswith("old")


def test_policy_that_chooses_no_version_is_refused_with_those_there_are(repository: Repository) -> None:
    write_bundle(repository.folder, config="version_policy { specific { versions: [9] } }")
    with pytest.raises(BundleError, match=r"\[1\]"):
        repository.load("intent")


def test_new_version_takes_over(repository: Repository, sample: Sample) -> None:
    write_bundle(repository.folder, version=1, labels=("old a", "old b"))
    repository.load_all()
    write_bundle(repository.folder, version=2, labels=("new a", "new b"))
    repository.load("intent")
    assert label(repository).startswith("new")
    assert states(repository) == {("intent", 1): "UNAVAILABLE", ("intent", 2): "READY"}
    assert reason(repository, "intent", 1) == "unloaded"
    assert sample("downstream_model_ready", model="intent", version="1") == 0
    assert repository.ready


def test_bad_new_version_leaves_the_old_one_serving(repository: Repository, sample: Sample) -> None:
    write_bundle(repository.folder, version=1, labels=("old a", "old b"))
    repository.load_all()
    write_bundle(repository.folder, version=2, wrong_golden=True)
    with pytest.raises(BundleError, match="version 2: .*golden"):
        repository.load("intent")
    assert label(repository).startswith("old")
    assert states(repository) == {("intent", 1): "READY", ("intent", 2): "UNAVAILABLE"}
    assert "golden" in reason(repository, "intent", 2)
    assert sample("downstream_quarantined_total", model="intent", version="2") == 1
    assert repository.ready
    with pytest.raises(NotReady, match="golden"):
        repository.get("intent", "2")


GATE = {"gate": "accuracy", "passed": False, "message": "lost 3 points", "figures": {}, "accepted": ""}
OVERFLOWING = {"needs": ("no-such-set",)}


@pytest.mark.parametrize(
    ("broken", "resealed", "changed", "said"),
    [
        ({"damaged": "model.json"}, {}, {}, r"model\.json was changed after it was written"),
        ({"golden": []}, {}, {}, "has no golden rows"),
        ({"stated": {"gates": [GATE]}}, {}, {}, "gate accuracy did not pass: lost 3 points"),
        ({"stated": OVERFLOWING}, {}, {}, "needs no-such-set, .*backend stub has no setting"),
        ({}, {"format": 3}, {}, "format 3 is newer than"),
        ({}, {"backend": "abacus"}, {}, "unknown backend"),
        ({}, {}, {"tolerance": {"logits": 9.0}}, r"manifest\.json was changed after it was written"),
    ],
    ids=["damaged", "unproved", "gate", "need", "future", "backend", "manifest"],
)
def test_whatever_refuses_a_new_version_the_old_one_goes_on_and_the_reason_is_told(
    repository: Repository,
    sample: Sample,
    caplog: pytest.LogCaptureFixture,
    broken: dict[str, object],
    resealed: dict[str, object],
    changed: dict[str, object],
    said: str,
) -> None:
    write_bundle(repository.folder, version=1, labels=("old a", "old b"))
    repository.load_all()
    folder = write_bundle(repository.folder, version=2, **broken)  # type: ignore[arg-type]
    if resealed:
        reseal(folder, **resealed)
    if changed:
        write_json(folder / MANIFEST, {**manifest_of(folder), **changed})
    with pytest.raises(BundleError, match=f"version 2: .*{said}"):
        repository.load("intent")
    assert label(repository).startswith("old")
    assert states(repository) == {("intent", 1): "READY", ("intent", 2): "UNAVAILABLE"}
    assert re.search(said, reason(repository, "intent", 2))
    assert re.search(f"intent version 2 is quarantined: .*{said}", caplog.text)
    assert sample("downstream_quarantined_total", model="intent", version="2") == 1
    assert repository.ready


def info(metrics: Metrics) -> list[dict[str, str]]:
    """What is told of the versions that answer."""
    (family,) = (found for found in metrics.registry.collect() if found.name == "downstream_model_info")
    assert all(found.value == 1 for found in family.samples)
    return [dict(found.labels) for found in family.samples]


def test_metrics_tell_what_answers_and_nothing_of_what_did(repository: Repository, metrics: Metrics) -> None:
    folder = write_bundle(repository.folder, stated={"quality": {"accuracy": 0.9}})
    repository.load_all()
    (first,) = info(metrics)
    assert first == {
        "model": "intent", "version": "1", "precision": "fp32", "task": "text-classification",
        "digest": manifest_of(folder)["digest"],
    }  # fmt: skip
    repository.load("intent")
    assert info(metrics) == [first]
    reseal(folder, precision="int8")
    repository.load("intent")
    (changed,) = info(metrics)
    assert (changed["precision"], changed["digest"] == first["digest"]) == ("int8", False)
    write_bundle(repository.folder, version=2)
    repository.load("intent")
    assert [found["version"] for found in info(metrics)] == ["2"]
    repository.unload("intent")
    assert info(metrics) == []


def test_version_that_is_overwritten_by_a_bad_one_goes_on_and_says_so(repository: Repository) -> None:
    write_bundle(repository.folder, labels=("old a", "old b"))
    repository.load_all()
    with (repository.folder / "intent" / "1" / "model.json").open("a") as file:
        file.write(" ")
    with pytest.raises(BundleError, match=r"model\.json was changed"):
        repository.load("intent")
    assert label(repository).startswith("old")
    assert states(repository) == {("intent", 1): "READY"}
    assert "quarantined" in reason(repository, "intent", 1)


def test_quarantined_version_serves_after_it_was_mended(repository: Repository) -> None:
    write_bundle(repository.folder, wrong_golden=True)
    repository.load_all()
    shutil.rmtree(repository.folder / "intent")
    write_bundle(repository.folder)
    repository.load("intent")
    assert repository.ready
    assert reason(repository, "intent", 1) == ""


def hold(repository: Repository, name: str = "intent") -> HeldBackend:
    """Put a held backend under a loaded engine."""
    backend = HeldBackend(len(LABELS))
    repository.get(name).model.backend = backend
    return backend


@pytest.mark.parametrize("change", ["unload", "load"])
def test_unload_and_reload_answer_the_rows_in_flight_first(repository: Repository, change: str) -> None:
    write_bundle(repository.folder)
    repository.load_all()
    backend = hold(repository)
    engine = repository.get("intent")
    future = engine.submit({"text": "hello"})
    backend.wait_until_running()
    changing = threading.Thread(target=getattr(repository, change), args=("intent",))
    changing.start()
    assert not future.done()
    backend.released.set()
    assert future.result(PATIENCE)["label"] == LABELS[-1]
    changing.join(PATIENCE)
    assert backend.closed
    with pytest.raises(NotReady):
        engine.submit({"text": "hello"})


def test_unloaded_model_says_so_and_does_not_spoil_readiness(repository: Repository, sample: Sample) -> None:
    write_bundle(repository.folder, "intent")
    write_bundle(repository.folder, "topic")
    repository.load_all()
    repository.unload("intent")
    with pytest.raises(NotFound, match="'intent' has no available versions"):
        repository.get("intent")
    with pytest.raises(NotReady, match="unloaded"):
        repository.get("intent", "1")
    repository.unload("intent")
    with pytest.raises(NotFound):
        repository.unload("absent")
    assert sample("downstream_model_ready", model="intent", version="1") == 0
    assert repository.ready
    repository.load("intent")
    assert label(repository) in LABELS


@pytest.mark.parametrize("name", ["absent", "../outside", "..", "", "a/b"])
def test_model_that_is_no_directory_of_the_repository_is_not_found(repository: Repository, name: str) -> None:
    write_bundle(repository.folder.parent, "outside")
    with pytest.raises(NotFound):
        repository.load(name)
    assert repository.index() == []


@pytest.mark.parametrize("version", ["7", "latest", "-1", "1.0", "²", "9" * 5000])
def test_unknown_version_is_not_found(repository: Repository, version: str) -> None:
    write_bundle(repository.folder)
    repository.load_all()
    with pytest.raises(NotFound, match=f"'intent' version {version[:20]}"):
        repository.get("intent", version)


def test_unknown_model_is_not_found_by_its_name(repository: Repository) -> None:
    with pytest.raises(NotFound, match="'absent'"):
        repository.get("absent")


def test_capacity_of_the_configuration_wins_over_the_settings(tmp_path: Path, metrics: Metrics) -> None:
    write_bundle(tmp_path, config="dynamic_batching { default_queue_policy { max_queue_size: 5 } }")
    repository = Repository(tmp_path, Settings(runners=1, capacity=77), metrics)
    repository.load_all()
    assert repository.get("intent")._scheduler._limits.capacity == 5
    repository.close()


def test_max_batch_size_of_the_configuration_wins_over_the_manifest(repository: Repository) -> None:
    write_bundle(repository.folder, max_batch_size=4)
    path = repository.folder / "intent" / model_config.FILE
    path.write_text(path.read_text().replace("max_batch_size: 4", "max_batch_size: 2"))
    repository.load_all()
    assert repository.get("intent").bundle.manifest.max_batch_size == 2


def test_what_the_configuration_asks_in_vain_is_logged(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    write_bundle(repository.folder, config="optimization { priority: PRIORITY_MAX }")
    repository.load_all()
    assert "optimization of config.pbtxt is not honoured" in caplog.text


def test_runs_are_counted_with_their_padding(repository: Repository, sample: Sample) -> None:
    write_bundle(repository.folder)
    repository.load_all()
    label(repository)
    tokens = sample("downstream_tokens_total", model="intent")
    assert tokens
    assert sample("downstream_padded_tokens_total", model="intent") == tokens
    assert sample("downstream_batch_rows_count", model="intent") == 1


def test_at_start_the_version_before_a_bad_one_serves(repository: Repository) -> None:
    write_bundle(repository.folder, version=1)
    write_bundle(repository.folder, version=2, wrong_golden=True)
    repository.load_all()
    assert repository.ready
    assert repository.versions("intent") == [1]
    assert states(repository) == {("intent", 1): "READY", ("intent", 2): "UNAVAILABLE"}
    assert "golden" in reason(repository, "intent", 2)


def test_model_without_versions_keeps_the_server_from_being_ready_and_is_in_the_index(repository: Repository) -> None:
    write_bundle(repository.folder)
    shutil.rmtree(write_bundle(repository.folder, "empty"))
    repository.load_all()
    assert not repository.ready
    assert "no version to serve" in reason(repository, "empty", 0)


def test_the_directory_and_not_the_manifest_says_which_version_it_is(repository: Repository) -> None:
    folder = write_bundle(repository.folder)
    shutil.copytree(folder, folder.parent / "7")
    repository.load_all()
    manifest = repository.get("intent").bundle.manifest
    assert (manifest.name, manifest.version) == ("intent", 7)


def test_configuration_that_asks_for_the_impossible_is_in_the_index_with_the_reason(repository: Repository) -> None:
    write_bundle(repository.folder, config="parameters { key: 'max_waste' value { string_value: '0' } }")
    repository.load_all()
    (entry,) = repository.index()
    assert (entry.version, entry.state) == (0, "UNAVAILABLE")
    assert "max_waste" in entry.reason
