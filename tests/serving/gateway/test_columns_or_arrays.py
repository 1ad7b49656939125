"""A text, or the token ids of it: the same answer over every door, one of the two, and ids that are checked by name."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.repository import Repository
from tests.serving.bundles import MAX_LENGTH, write_bundle

TEXTS = ("hello", "Grüße 👩‍🚀", "a")


@pytest.fixture(params=["stub", "onnxruntime"])
def model(request: pytest.FixtureRequest, repository: Repository) -> str:
    """A model of each backend."""
    write_bundle(repository.folder, "model", backend=request.param)
    repository.load("model")
    return "model"


def arrays(repository: Repository, *texts: str) -> dict[str, list[list[int]]]:
    """What the model's own encoder makes of texts of one length."""
    encode = repository.get("model").task.encode
    rows = [encode({"text": text}) for text in texts]
    return {name: [row[name].tolist() for row in rows] for name in ("input_ids", "attention_mask")}


def tensors(columns: dict[str, list[list[int]]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": "INT64", "shape": [len(rows), len(rows[0])], "data": rows}
        for name, rows in columns.items()
    ]


def texts(*rows: str) -> list[dict[str, Any]]:
    return [{"name": "text", "datatype": "BYTES", "shape": [len(rows), 1], "data": list(rows)}]


def infer(client: TestClient, inputs: list[dict[str, Any]]) -> Any:
    return client.post("/v2/models/model/infer", json={"inputs": inputs})


@pytest.mark.parametrize("text", TEXTS)
def test_arrays_of_a_text_get_its_answer(client: TestClient, model: str, repository: Repository, text: str) -> None:
    columns = arrays(repository, text)
    expected = infer(client, texts(text)).json()
    assert "outputs" in expected
    assert infer(client, tensors(columns)).json() == expected
    row = {name: values[0] for name, values in columns.items()}
    assert (
        client.post("/v2/models/model/generate", json=row).json()
        == client.post("/v2/models/model/generate", json={"text": text}).json()
    )
    predicted = [
        client.post("/v1/models/model:predict", json={"instances": [instance]}).json()
        for instance in (row, {"text": text})
    ]
    assert predicted[0] == predicted[1]


def test_rows_of_arrays_are_answered_like_rows_of_texts(client: TestClient, model: str, repository: Repository) -> None:
    rows = ("abc", "xyz", "123")
    assert infer(client, tensors(arrays(repository, *rows))).json() == infer(client, texts(*rows)).json()


def test_padding_of_a_row_changes_nothing_where_the_mask_says_so(client: TestClient, repository: Repository) -> None:
    write_bundle(repository.folder, "model", backend="onnxruntime")
    repository.load("model")
    columns = arrays(repository, "hello")
    padded = {name: [[*rows[0], 0, 0]] for name, rows in columns.items()}
    assert infer(client, tensors(padded)).json() == infer(client, tensors(columns)).json()


IDS, MASK = [[1, 40, 2]], [[1, 1, 1]]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([*texts("a"), *tensors({"input_ids": IDS, "attention_mask": MASK})], "send one of the two"),
        ([*texts("a"), *tensors({"attention_mask": MASK})], "send one of the two"),
        (tensors({"input_ids": IDS}), "Missing: attention_mask"),
        (tensors({"attention_mask": MASK}), "Missing: input_ids"),
        ([], "Missing: text"),
        (tensors({"input_ids": [[1, 10_000, 2]], "attention_mask": MASK}), "input_ids: holds values outside 0 to"),
        (tensors({"input_ids": [[1, -1, 2]], "attention_mask": MASK}), "input_ids: holds values outside 0 to"),
        (tensors({"input_ids": IDS, "attention_mask": [[1, 2, 1]]}), "attention_mask: holds values outside 0 to 1"),
        (tensors({"input_ids": IDS, "attention_mask": [[1, 1]]}), "length: is not the same in all arrays"),
        (
            tensors({"input_ids": [[1] * (MAX_LENGTH + 1)], "attention_mask": [[1] * (MAX_LENGTH + 1)]}),
            f"length: is out of bounds, got {MAX_LENGTH + 1}; send 1 to {MAX_LENGTH}",
        ),
        (tensors({"input_ids": [[]], "attention_mask": [[]]}), "length: is out of bounds, got 0"),
        (tensors({"input_ids": [*IDS, *IDS], "attention_mask": MASK}), "different batch sizes"),
        (tensors({"input_ids": [*IDS, [1, -1, 2]], "attention_mask": [*MASK, *MASK]}), "row 1: input_ids: holds"),
        (
            [{"name": "input_ids", "datatype": "INT32", "shape": [1, 3], "data": IDS},
             *tensors({"attention_mask": MASK})],
            "inference input 'input_ids' data-type is 'INT32'",
        ),
        (
            [{"name": "input_ids", "datatype": "INT64", "shape": [3], "data": IDS},
             *tensors({"attention_mask": MASK})],
            "unexpected shape for input 'input_ids'",
        ),
    ],
)  # fmt: skip
def test_arrays_that_are_no_row_are_refused_by_name(
    client: TestClient, repository: Repository, inputs: list[dict[str, Any]], said: str
) -> None:
    write_bundle(repository.folder, "model")
    repository.load("model")
    response = infer(client, inputs)
    assert response.status_code == 400
    assert said in response.json()["error"]
    assert infer(client, texts("a")).status_code == 200


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a", "input_ids": IDS[0]}, "input_ids"),
        ({"input_ids": IDS[0]}, "attention_mask"),
        ({"input_ids": [1, 10_000], "attention_mask": [1, 1]}, "input_ids"),
        ({"input_ids": "abc", "attention_mask": [1, 1, 1]}, "input_ids"),
        ({"input_ids": IDS, "attention_mask": MASK}, "input_ids"),
        ({"input_ids": [1.5, 2.5], "attention_mask": [1, 1]}, "input_ids"),
        ({"input_ids": ["1", "2"], "attention_mask": [1, 1]}, "input_ids"),
        ({"input_ids": [1, 2], "attention_mask": [True, True]}, "attention_mask"),
    ],
)
def test_rows_for_people_are_checked_the_same(client: TestClient, row: dict[str, Any], said: str) -> None:
    response = client.post("/v1/models/intent:predict", json={"instances": [row]})
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]
