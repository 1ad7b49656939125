"""What is sent: rows of a file, the model's own example, or made-up sentences, as batches of tensors."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.target import CannotStart, Column, Row, Tensor
from serving.tensors import NUMPY_TYPES

SENTENCES = 256
LENGTHS = (5, 120)
VOCABULARY = (
    "the a of to and in that for with on this from by not have has will can please my your our their order card "
    "account payment delivery customer service question answer week morning number price contract invoice refund "
    "yesterday tomorrow never always quickly because although however waiting received changed cancelled expected "
    "information department international understanding responsibility temperature machine network result water "
    "house street people report small large new old better different possible important"
)


def read(path: Path, columns: Sequence[Column]) -> list[Row]:
    """The rows of a .jsonl, .csv or .txt file, cut to the inputs of the model: a dataset may be sent as it is.

    Raises CannotStart that names the file and the line.
    """
    readers = {".jsonl": _jsonl, ".csv": _csv, ".txt": _txt}
    if path.suffix not in readers:
        raise CannotStart(f"--input {path}: unknown kind of file; give one of {', '.join(readers)}")
    try:
        numbered = readers[path.suffix](path, columns)
    except OSError as error:
        raise CannotStart(f"--input {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise CannotStart(f"--input {path}: is not UTF-8 at byte {error.start}; convert it to UTF-8") from error
    rows: list[Row] = []
    for line, found in numbered:
        row = {one.name: found[one.name] for one in columns if found.get(one.name) is not None}
        if not row:
            wanted = ", ".join(one.name for one in columns)
            raise CannotStart(f"--input {path}: line {line} has no input of the model; the inputs are {wanted}")
        rows.append(row)
    if not rows:
        raise CannotStart(f"--input {path}: holds no rows")
    return rows


def sentences(columns: Sequence[Column], seed: int) -> list[Row]:
    """Made-up texts of 5 to 120 words, short ones more often, for every BYTES input.

    ``text_pair`` is left out, for it is optional in every task of ours. Raises CannotStart where an input is
    not BYTES, for no made-up array is known to be valid.
    """
    draw = random.Random(seed)
    other = [f"{one.name} ({one.dtype} {list(one.shape)})" for one in columns if one.dtype != "BYTES"]
    if other or not columns:
        raise CannotStart(f"no rows can be made up for {', '.join(other) or 'no inputs'}; give them with --input")
    words, (least, most) = VOCABULARY.split(), LENGTHS

    def sentence() -> str:
        count = round(least * (most / least) ** draw.random())
        return " ".join(draw.choices(words, k=count)).capitalize() + "."

    return [{one.name: sentence() for one in columns if one.name != "text_pair"} for _ in range(SENTENCES)]


def batches(rows: Sequence[Row], columns: Sequence[Column], size: int, seed: int) -> list[list[Tensor]]:
    """All rows in an order drawn from ``seed``, in requests of ``size`` rows; the last is filled from the beginning.

    Raises CannotStart where the rows of one request do not fit together or have another type than the input.
    """
    order = list(rows)
    # A file is often sorted, by label or by length; a server must not see that order as traffic.
    random.Random(seed).shuffle(order)
    filled = [order[index % len(order)] for index in range(-(-len(order) // size) * size)]
    return [_stacked(filled[start : start + size], columns) for start in range(0, len(filled), size)]


def _stacked(rows: Sequence[Row], columns: Sequence[Column]) -> list[Tensor]:
    names = set(rows[0])
    for row in rows:
        if set(row) != names:
            raise CannotStart(f"rows of one request must have the same inputs; give --rows 1, or mend {_short(row)}")
    return [
        Tensor(one.name, one.dtype, _array([row[one.name] for row in rows], one, rows[0]))
        for one in columns
        if one.name in names
    ]


def _array(values: list[Any], column: Column, row: Row) -> NDArray[Any]:
    try:
        array = np.array(values, dtype=NUMPY_TYPES[column.dtype])
        if column.dtype == "BYTES":
            # Raises TypeError for what is not text, and UnicodeEncodeError for text that has no UTF-8.
            "".join(array.ravel()).encode()
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        wanted = f"input {column.name!r} is {column.dtype} {list(column.shape)}"
        raise CannotStart(f"{wanted}, which cannot be made of {_short(row)}: {error}") from error
    return array


def _short(row: Row) -> str:
    text = repr(dict(row))
    return text if len(text) <= 120 else text[:119] + "…"


def _jsonl(path: Path, _columns: Sequence[Column]) -> list[tuple[int, Row]]:
    rows: list[tuple[int, Row]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CannotStart(f"--input {path}: line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise CannotStart(f'--input {path}: line {number} is not an object; write {{"text": "..."}}')
        rows.append((number, row))
    return rows


def _csv(path: Path, columns: Sequence[Column]) -> list[tuple[int, Row]]:
    numeric = {one.name for one in columns if one.dtype != "BYTES"}
    rows: list[tuple[int, Row]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for found in reader:
                row = {name: json.loads(text) if name in numeric else text for name, text in found.items()}
                rows.append((reader.line_num, row))
        except (csv.Error, ValueError) as error:
            raise CannotStart(f"--input {path}: line {reader.line_num}: {error}") from error
    return rows


def _txt(path: Path, columns: Sequence[Column]) -> list[tuple[int, Row]]:
    texts = [one.name for one in columns if one.dtype == "BYTES"]
    if not texts:
        raise CannotStart(f"--input {path}: the model takes no text; give its inputs as .jsonl")
    name = "text" if "text" in texts else texts[0]
    lines = path.read_text(encoding="utf-8").split("\n")
    return [(number, {name: line.strip()}) for number, line in enumerate(lines, start=1) if line.strip()]
