"""Rows of a data set with the place each came from: files, or a data set of the hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from finetune.faults import Faults, RecipeError

# Characters; Python's own limit of 131,072 is less than a long document has.
LONGEST_FIELD = 2**30


@dataclass(frozen=True, slots=True)
class Example:
    """One dataset row (columns named as the task's fields) and where it stands (``train.csv:17``)."""

    row: Mapping[str, Any]
    place: str


def read_file(path: Path, faults: Faults) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The raw rows of one file, each with its place; a fault of the file or of a line goes to ``faults``."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        faults.add(str(path), f"unknown format {path.suffix!r}; the formats are {', '.join(readers)}")
        return
    if not path.is_file():
        faults.add(str(path), f"no such file; paths are relative to the current folder, {Path.cwd()}")
        return
    try:
        yield from reader(path, faults)
    except UnicodeDecodeError:
        faults.add(f"{path}:{_line_not_utf8(path)}", "not UTF-8; convert the file, for example with iconv")
    except (OSError, ValueError) as error:
        faults.add(str(path), f"cannot be read: {error}")


def _line_not_utf8(path: Path) -> int:
    """The number of the first line that is not UTF-8: the decoder's own position counts from its last buffer."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def _csv(path: Path, faults: Faults) -> Iterator[tuple[Mapping[str, Any], str]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        # Strict: else a quote that is never closed takes in the rest of the file as one text.
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        start = 1
        try:
            header = next(reader, [])
            if not header:
                faults.add(f"{path}:1", "is empty; the first line must name the columns")
                return
            # A quoted field may span lines: line_num is where a record ended, so the next begins one further.
            start = reader.line_num + 1
            for values in reader:
                place, start = f"{path}:{start}", reader.line_num + 1
                if len(values) > len(header):
                    faults.add(place, f"has more fields than the {len(header)} of the header; quote the text")
                elif values:
                    yield dict(zip_longest(header, values)), place
        except csv.Error as error:
            faults.add(f"{path}:{start}", f"not valid CSV: {error}; is a quote missing?")


def _jsonl(path: Path, faults: Faults) -> Iterator[tuple[Mapping[str, Any], str]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}:{number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                faults.add(place, f"not valid JSON ({error}); one JSON object per line")
                continue
            if not isinstance(record, dict):
                faults.add(place, f"must be a JSON object with named columns, got {line.strip()[:60]}")
                continue
            yield record, place


def _parquet(path: Path, faults: Faults) -> Iterator[tuple[Mapping[str, Any], str]]:
    import pyarrow.parquet

    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for record in batch.to_pylist():
                number += 1
                yield record, f"{path} row {number}"


def read_hub(name: str, config: str | None, split: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The raw rows of one split of a hub data set. Raises RecipeError when it cannot be had."""
    import datasets

    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the hub client raises many kinds; all mean that there is no data
        raise RecipeError(
            f"cannot load {name!r} (config {config!r}, split {split!r}) from the hub: {error}; "
            "check the name and the network, or give files as data.train"
        ) from error
    label_names = {
        column: feature.names for column, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)
    }
    for number, record in enumerate(rows, 1):
        named = {c: names[record[c]] for c, names in label_names.items() if record[c] is not None and record[c] >= 0}
        yield {**record, **named}, f"{name}[{split}] row {number}"
