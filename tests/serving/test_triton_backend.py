"""The backend in Triton, by itself: what it makes of requests, with the part of Triton that it needs played here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from serving.scheduler.runners import Batch
from serving.tensors import Array
from serving.triton_backend import CODES, TritonPythonModel
from tests.serving.bundles import LABELS, write_bundle
from tests.serving.held_backend import HeldBackend


class Tensor:
    """A tensor of the server's library."""

    def __init__(self, name: str, array: Array) -> None:
        self.name, self._array = name, array

    def as_numpy(self) -> Array:
        return self._array


class TritonError(Exception):
    """An error of the server's library."""

    INTERNAL, INVALID_ARG, UNAVAILABLE, UNSUPPORTED = "INTERNAL", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED"

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Response:
    """What a request is answered with."""

    def __init__(self, output_tensors: Sequence[Tensor], error: TritonError | None = None) -> None:
        self.outputs = {tensor.name: tensor.as_numpy() for tensor in output_tensors}
        self.error = error


class Request:
    """A request as the server hands it over."""

    def __init__(self, wanted: set[str] | None = None, timeout: int = 0, **inputs: Array) -> None:
        self._wanted, self._timeout = wanted or {"label", "score", "probabilities", "logits"}, timeout
        self.inputs = inputs

    def requested_output_names(self) -> set[str]:
        return self._wanted

    def timeout(self) -> int:
        return self._timeout


def texts(*values: str) -> Array:
    array = np.empty((len(values), 1), object)
    array[:, 0] = [value.encode() for value in values]
    return array


@pytest.fixture
def utils(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that only exists inside Triton."""
    module = ModuleType("triton_python_backend_utils")
    played = {
        "Tensor": Tensor,
        "TritonError": TritonError,
        "InferenceResponse": Response,
        "TritonModelException": type("TritonModelException", (Exception,), {}),
        "get_input_tensor_by_name": lambda request, name: (
            Tensor(name, request.inputs[name]) if name in request.inputs else None
        ),
    }
    for name, value in played.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def arguments(folder: Path, **config: Any) -> dict[str, str]:
    """What Triton tells an instance; ``folder`` is the version directory."""
    return {
        "model_config": json.dumps({"max_batch_size": 4, "instance_group": [{"count": 1}], **config}),
        "model_repository": str(folder.parent),
        "model_version": folder.name,
        "model_name": "intent",
    }


@pytest.fixture
def model(utils: ModuleType, tmp_path: Path) -> Iterator[TritonPythonModel]:
    model = TritonPythonModel()
    runners = {"runners": {"string_value": "1"}}
    model.initialize(arguments(write_bundle(tmp_path, max_batch_size=4), parameters=runners))
    yield model
    model.finalize()


def test_every_request_of_a_batch_is_answered_in_order_with_its_own_rows(model: TritonPythonModel) -> None:
    one, two = model.execute([Request(text=texts("a")), Request(text=texts("a", "hello"))])
    assert one.error is None
    assert one.outputs["label"].shape == (1, 1)
    assert two.outputs["logits"].shape == (2, len(LABELS))
    np.testing.assert_array_equal(one.outputs["logits"][0], two.outputs["logits"][0])
    assert set(one.outputs["label"].ravel()) <= set(LABELS)


def test_arrays_of_the_graph_are_taken_as_well(model: TritonPythonModel) -> None:
    ids = np.array([[1, 40, 2]], np.int64)
    (found,) = model.execute([Request(input_ids=ids, attention_mask=np.ones_like(ids))])
    assert found.error is None
    assert found.outputs["logits"].shape == (1, len(LABELS))


def test_bad_row_fails_its_own_request_only_and_is_named(model: TritonPythonModel) -> None:
    good, bad, unknown = model.execute(
        [Request(text=texts("a")), Request(text=texts("a", "")), Request(text_pair=texts("a"))]
    )
    assert good.error is None
    assert (bad.error.code, unknown.error.code) == ("INVALID_ARG", "INVALID_ARG")
    assert str(bad.error).startswith("row 1: text: is empty")
    assert "Missing: text" in str(unknown.error)


def test_only_requested_outputs_are_given(model: TritonPythonModel) -> None:
    (found,) = model.execute([Request({"score"}, text=texts("a"))])
    assert set(found.outputs) == {"score"}


def test_rows_of_a_batch_meet_before_the_first_of_them_runs(model: TritonPythonModel) -> None:
    seen: list[Batch] = []
    model._engine._scheduler._observe = seen.append
    model._engine.cost = lambda rows, length: 1.0  # type: ignore[assignment, return-value]
    model.execute([Request(text=texts("aa")), Request(text=texts("bb")), Request(text=texts("cc"))])
    assert [len(batch.lengths) for batch in seen] == [3]


def test_failure_of_the_graph_is_internal_and_only_the_log_has_its_details(
    model: TritonPythonModel, caplog: pytest.LogCaptureFixture
) -> None:
    backend = HeldBackend(len(LABELS))
    backend.failure = RuntimeError("out of memory")
    backend.released.set()
    model._engine.model.backend = backend
    (found,) = model.execute([Request(text=texts("a"))])
    assert found.error.code == "INTERNAL"
    assert "out of memory" not in str(found.error)
    assert str(found.error).split("id ")[1].split(";")[0] in caplog.text
    assert "out of memory" in caplog.text


def test_row_that_cannot_make_its_timeout_is_refused_as_unavailable(model: TritonPythonModel) -> None:
    model._engine.cost = lambda rows, length: 10.0  # type: ignore[assignment, return-value]
    late, fine = model.execute([Request(text=texts("a"), timeout=1000), Request(text=texts("a"))])
    assert late.error.code == "UNAVAILABLE"
    assert fine.error is None


def test_every_code_is_one_that_triton_has() -> None:
    assert set(CODES.values()) <= {"INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED"}


def test_bundle_that_does_not_prove_itself_keeps_the_version_from_loading(utils: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(utils.TritonModelException, match="golden rows are not reproduced"):
        TritonPythonModel().initialize(arguments(write_bundle(tmp_path, wrong_golden=True)))


def test_parameter_of_a_wrong_value_keeps_the_version_from_loading(utils: ModuleType, tmp_path: Path) -> None:
    wrong = {"max_waste": {"string_value": "little"}}
    with pytest.raises(utils.TritonModelException, match="max_waste: wrong value, got 'little'"):
        TritonPythonModel().initialize(arguments(write_bundle(tmp_path), parameters=wrong))


@pytest.mark.parametrize(("instances", "runners"), [(1, 6), (2, 3), (9, 1)])
def test_instances_share_the_cores(
    utils: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instances: int, runners: int
) -> None:
    monkeypatch.setattr("serving.triton_backend.read_available_cores", lambda: 6)
    model = TritonPythonModel()
    model.initialize(arguments(write_bundle(tmp_path), instance_group=[{"count": instances}]))
    assert model._engine._scheduler._runners == runners
    model.finalize()


def test_numpy_that_the_server_garbles_is_refused(
    utils: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "as_numpy", lambda self: np.repeat(self._array[:1], len(self._array)))
    with pytest.raises(utils.TritonModelException, match="numpy<2"):
        TritonPythonModel().initialize(arguments(write_bundle(tmp_path)))
