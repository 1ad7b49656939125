"""Graphs compute right on the processor that is there, and what that takes is told; or they are not opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from serving import backends, graphs, processor
from serving.backends import open_backend
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle import Bundle, open_bundle
from serving.engine import Engine
from serving.errors import BundleError
from serving.processor import VNNI, Processor
from serving.settings import Settings
from serving.tensors import stack
from tests.serving.bundles import write_bundle

Host = Callable[..., None]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Says which features the processor has."""

    def has(*features: str) -> None:
        found = Processor("Some CPU", "x86_64", frozenset(features))
        monkeypatch.setattr(processor, "read", lambda *_: found)

    return has


def bundle_of(folder: Path, backend: str, needs: Sequence[str]) -> Bundle:
    return open_bundle(write_bundle(folder, backend=backend, stated={"needs": needs}))


def is_precise(backend: object) -> bool:
    assert isinstance(backend, OnnxRuntime)
    ((session, _),) = backend.sessions.values()
    try:
        return bool(session.get_session_options().get_session_config_entry("session.x64quantprecision") == "1")
    except RuntimeError:  # it was never set
        return False


@pytest.mark.parametrize(
    ("needs", "features", "precise"),
    [((VNNI,), ("avx2",), True), ((VNNI,), ("avx2", "avx512_vnni"), False), ((), ("avx2",), False)],
)
def test_onnx_runtime_is_precise_where_the_graph_needs_what_the_processor_lacks(
    needs: Sequence[str],
    features: Sequence[str],
    precise: bool,
    host: Host,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    host(*features)
    bundle = bundle_of(tmp_path, "onnxruntime", needs)
    backend = graphs.opened(bundle, Settings())
    assert is_precise(backend) == precise
    backend.close()
    said = "intent version 1: 8-bit weights would overflow on this CPU (no VNNI): runs in the precise mode, slower"
    assert (said in caplog.text) == precise
    assert len(graphs.remedies(bundle.manifest, Settings())) == precise


def test_model_in_the_precise_mode_proves_itself_and_answers(host: Host, tmp_path: Path) -> None:
    host()
    engine = Engine.load(bundle_of(tmp_path, "onnxruntime", [VNNI]), Settings(runners=1))
    try:
        row = engine.model.encode(engine.model.check({"text": "hello"}))
        assert is_precise(engine.model.backend)
        assert engine.model.backend.run("model", stack([row], engine.model.graph.inputs))["logits"].shape == (1, 3)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("backend", "need", "said"),
    [
        ("stub", VNNI, r"no VNNI.*backend stub has no setting"),
        ("onnxruntime", "amx_int8", r"needs amx_int8.*backend onnxruntime has no setting"),
    ],
)
def test_need_that_the_backend_cannot_do_without_is_refused(
    backend: str, need: str, said: str, host: Host, tmp_path: Path
) -> None:
    host("avx2")
    bundle = bundle_of(tmp_path, backend, [need])
    with pytest.raises(BundleError, match=said):
        graphs.opened(bundle, Settings())
    host("avx2", "avx_vnni", "amx_int8")
    graphs.opened(bundle, Settings()).close()


def test_graphs_that_another_server_runs_need_nothing_here(host: Host, tmp_path: Path) -> None:
    host()
    bundle = bundle_of(tmp_path, "stub", [VNNI])
    assert graphs.remedies(bundle.manifest, Settings(triton_graphs="triton:8001")) == []


@pytest.mark.parametrize("name", backends.names())
def test_every_remedy_is_an_option_of_its_backend_and_said_in_words(name: str, tmp_path: Path) -> None:
    for need in (VNNI, "amx_int8"):
        try:
            remedy = backends.remedy(name, need)
        except BundleError:
            continue
        assert remedy.words
        graph = bundle_of(tmp_path, name, []).graph_files()
        open_backend(name, graph, [need]).close()


def test_nothing_is_said_where_nothing_is_needed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        graphs.opened(bundle_of(tmp_path, "onnxruntime", []), Settings()).close()
    assert "CPU" not in caplog.text
