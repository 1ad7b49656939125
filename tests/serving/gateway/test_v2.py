"""v2 messages to rows and answers to tensors, and what the metrics say of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving.codec import Tensor
from serving.errors import InvalidInput, NotFound
from serving.gateway.messages import InferRequest, InferResponse, Output, Placement
from serving.gateway.v2 import Inference
from tests.serving.bundles import LABELS


def column(name: str, values: list[Any], datatype: str = "BYTES") -> Tensor:
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return Tensor(name, datatype, array)


def infer(inference: Inference, *inputs: Tensor, **changes: Any) -> InferResponse:
    return asyncio.run(inference.infer(InferRequest("intent", "", inputs, **changes), "test"))


def outputs(response: InferResponse) -> dict[str, Any]:
    return {answered.tensor.name: answered.tensor.array for answered in response.outputs}


def test_every_row_has_its_line_in_every_output(inference: Inference) -> None:
    response = infer(inference, column("text", ["a", "bb", "ccc"]), id="7")
    assert (response.model, response.version, response.id) == ("intent", "1", "7")
    shapes = {name: array.shape for name, array in outputs(response).items()}
    wide = (3, len(LABELS))
    assert shapes == {"label": (3, 1), "score": (3, 1), "probabilities": wide, "logits": wide}
    alone = outputs(infer(inference, column("text", ["bb"])))
    for name, array in outputs(response).items():
        np.testing.assert_array_equal(array[1], alone[name][0])


def test_scalar_column_may_come_without_its_trailing_axis(inference: Inference) -> None:
    flat = Tensor("text", "BYTES", np.array(["a", "bb"], object))
    assert outputs(infer(inference, flat)).keys() == outputs(infer(inference, column("text", ["a"]))).keys()


def test_pairs_belong_to_the_row_of_their_index(inference: Inference) -> None:
    together = outputs(infer(inference, column("text", ["a", "a"]), column("text_pair", ["x", "y"])))
    for index, pair in enumerate("xy"):
        alone = outputs(infer(inference, column("text", ["a"]), column("text_pair", [pair])))
        np.testing.assert_array_equal(together["logits"][index], alone["logits"][0])
    assert not np.array_equal(together["logits"][0], together["logits"][1])


def test_requested_outputs_come_alone_and_in_the_order_asked_for(inference: Inference) -> None:
    response = infer(inference, column("text", ["a"]), outputs=(Output("logits"), Output("label")))
    assert list(outputs(response)) == ["logits", "label"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([column("text", ["a"]), column("text", ["b"])], "twice"),
        ([column("text", ["a"]), column("text_pair", ["b", "c"])], r"different batch sizes: \[1, 2\]"),
        ([column("text_pair", ["a"])], "Missing: text"),
        ([column("text", [])], "at least 1, got 0"),
    ],
)
def test_inputs_that_are_no_rows_are_refused(inference: Inference, inputs: list[Tensor], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        infer(inference, *inputs)


def test_bad_row_of_several_is_named_by_its_index(inference: Inference) -> None:
    with pytest.raises(InvalidInput, match="^row 1: text: is empty"):
        infer(inference, column("text", ["a", "", "c"]))
    with pytest.raises(InvalidInput, match="^text: is empty"):
        infer(inference, column("text", [""]))


def test_latency_of_requests_is_observed_by_protocol(inference: Inference, sample: Callable[..., float | None]) -> None:
    infer(inference, column("text", ["a", "b"]))
    assert sample("downstream_request_seconds_count", model="intent", protocol="test") == 1


def test_output_that_is_asked_for_twice_comes_once_as_it_was_asked_last(inference: Inference) -> None:
    response = infer(inference, column("text", ["a"]), outputs=(Output("logits"), Output("logits", classes=1)))
    (answered,) = response.outputs
    assert answered.tensor.datatype == "BYTES"


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (Output("absent"), InvalidInput),
        (Output("label", classes=1), InvalidInput),
        (Output("logits", placement=Placement("absent", 12)), NotFound),
    ],
)
def test_output_that_cannot_be_given_is_refused_before_anything_is_run(
    inference: Inference, output: Output, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"absent|label"):
        infer(inference, column("text", ["a"]), outputs=(Output("score"), output))
    assert inference.repository.get("intent").statistics.snapshot()["execution_count"] == 0
