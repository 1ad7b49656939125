"""``downstream predict``: rows of a file to predictions, offline, by the engine that would serve them."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from serving import model_config
from serving.bundle import Bundle, open_bundle, plain
from serving.engine import Engine
from serving.errors import DownstreamError, InvalidInput, NotFound, fault
from serving.settings import Settings
from serving.tensors import Row

FAULTY, SOME_FAILED = 2, 1
# Rows in flight: enough for batches of like length, few enough that memory does not grow with the file.
IN_FLIGHT = 1024

# Characters; Python's own limit of 131,072 is less than a long document has.
LONGEST_FIELD = 2**30
SUFFIXES = (".jsonl", ".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Record:
    """One record of the input: its columns, or why it has none; ``place`` is file and line, as ``rows.csv:7``."""

    place: str
    columns: Mapping[str, Any]
    fault: str = ""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream predict",
        description="Predict every row of a file. Output is written in the order of the input, as it comes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  downstream predict model_repository/tickets --input rows.jsonl --output predictions.jsonl
  downstream predict model_repository/tickets --input mails.csv --keep id --columns text=body > out.jsonl
  cut -f2 tickets.tsv | downstream predict model_repository/tickets --input - --output out.jsonl

input: .jsonl (one object per line), .csv, .tsv, or plain text (.txt, or - for standard input): one text per line
output: JSON lines; a row that failed has "error" instead of an answer
exit codes: 0 all rows answered, 1 some rows failed (the others are written), 2 nothing could be done""",
    )
    command.add_argument("model", type=Path, help="model directory in a repository, or one version directory of it")
    command.add_argument("--input", required=True, help="file of rows, or - for standard input")
    command.add_argument("--output", default="-", help="file for the predictions (default: standard output)")
    command.add_argument(
        "--columns", nargs="*", default=[], metavar="FIELD=COLUMN", help="where a field has another name in the file"
    )
    command.add_argument("--keep", nargs="*", default=[], metavar="COLUMN", help="input columns to copy, under 'input'")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    try:
        columns = _mapping(args.columns)
        with closing(Engine.load(_bundle(args.model), Settings(capacity=2 * IN_FLIGHT))) as engine:
            fields = [field.name for field in engine.task.inputs]
            _check_names(columns, fields)
            _check_files(args.input, args.output)
            # Counting first costs one more pass over the file and gives a bar that knows its end.
            total = None if args.input == "-" else sum(1 for _ in _rows(args.input, fields[0]))
            with tqdm(desc="predicting", unit="row", total=total) as bar, _opened(args.output) as output:
                failed = _predict(engine, _rows(args.input, fields[0]), columns, args.keep, output, bar)
    except (DownstreamError, OSError) as error:
        print(f"downstream predict: {error}", file=sys.stderr)
        return FAULTY
    if failed:
        print(f"downstream predict: {failed} rows failed; their lines hold the reason as 'error'", file=sys.stderr)
    return SOME_FAILED if failed else 0


def _predict(
    engine: Engine,
    rows: Iterator[Record],
    columns: Mapping[str, str],
    keep: Sequence[str],
    output: TextIO,
    bar: Any,
) -> int:
    """Stream rows through the scheduler with a bounded number in flight; how many failed."""
    flying: deque[tuple[Record, Future[Row] | str]] = deque()
    failed = 0
    for record in rows:
        flying.append((record, _submitted(engine, record, columns)))
        if len(flying) >= IN_FLIGHT:
            failed += _written(*flying.popleft(), keep, output)
            bar.update()
    while flying:
        failed += _written(*flying.popleft(), keep, output)
        bar.update()
    return failed


def _submitted(engine: Engine, record: Record, columns: Mapping[str, str]) -> Future[Row] | str:
    """The answer to come, or why there is none."""
    if record.fault:
        return record.fault
    found = record.columns
    fields = {field.name: columns.get(field.name, field.name) for field in engine.task.inputs}
    for field in engine.task.inputs:
        column = fields[field.name]
        if not field.optional and column not in found:
            return (
                f"no column {column!r} for {field.name!r}; the columns are {', '.join(found)}: "
                f"use --columns {field.name}=COLUMN"
            )
    try:
        return engine.submit({name: found[column] for name, column in fields.items() if column in found})
    except DownstreamError as error:
        return str(error)


def _written(record: Record, answer: Future[Row] | str, keep: Sequence[str], output: TextIO) -> bool:
    """Write one line; whether the row failed."""
    kept = {name: record.columns.get(name) for name in keep}
    try:
        result = {"error": f"{record.place}: {answer}"} if isinstance(answer, str) else plain(answer.result())
    except Exception as error:
        result = {"error": f"{record.place}: {type(error).__name__}: {error}"}
    line = {**({"input": kept} if keep else {}), **result}
    output.write(json.dumps(line, ensure_ascii=False) + "\n")
    return "error" in result


def _bundle(path: Path) -> Bundle:
    """The bundle of a version directory, or of the version that ``config.pbtxt`` would serve."""
    if path.name.isdigit() and not (path / model_config.FILE).exists():
        return open_bundle(path)
    if not path.is_dir():
        raise NotFound(f"{path}: no such folder; give a model directory, as model_repository/NAME")
    config = model_config.read(path.resolve())
    available = [int(child.name) for child in path.iterdir() if child.name.isdigit()]
    wanted = model_config.chosen_versions(config, available)
    if not wanted:
        raise NotFound(f"{path}: has no version directory; export a model first")
    bundle = open_bundle(path / str(wanted[-1]))
    return replace(bundle, manifest=replace(bundle.manifest, max_batch_size=config.max_batch_size))


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InvalidInput(fault("--columns", "must be FIELD=COLUMN", pair, "write for example text=body"))
    return dict(pair.split("=", 1) for pair in pairs)


def _check_files(source: str, target: str) -> None:
    """Raise InvalidInput where writing the output would destroy the input before it is read."""
    if target != "-" and Path(target).exists() and Path(source).exists() and Path(target).samefile(source):
        raise InvalidInput(fault("--output", "is the input file itself", target, "give another file"))


def _check_names(columns: Mapping[str, str], fields: Sequence[str]) -> None:
    for name in columns:
        if name not in fields:
            raise InvalidInput(
                fault("--columns", "the model has no such field", name, f"its fields are {', '.join(fields)}")
            )


def _rows(name: str, text_field: str) -> Iterator[Record]:
    """The rows of the input, one at a time. Raises NotFound or InvalidInput for a file that cannot be read."""
    if name == "-":
        yield from _lines(sys.stdin, "-", text_field)
        return
    path, suffix = Path(name), Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInput(fault("--input", "unknown format", name, f"give a file of {', '.join(SUFFIXES)}, or -"))
    if not path.is_file():
        raise NotFound(f"--input: no such file, got {name!r}; give a .jsonl, .csv, .tsv or .txt file, or -")
    with path.open(encoding="utf-8-sig", newline="" if suffix in (".csv", ".tsv") else None) as file:
        try:
            if suffix == ".jsonl":
                yield from (_parsed(line, f"{name}:{number}") for number, line in enumerate(file, 1) if line.strip())
            elif suffix == ".txt":
                yield from _lines(file, name, text_field)
            else:
                yield from _separated(file, name, "\t" if suffix == ".tsv" else ",")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{name}: not UTF-8; convert the file, for example with iconv") from error


def _lines(file: TextIO, name: str, text_field: str) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        yield Record(f"{name}:{number}", {text_field: line.rstrip("\n")})


def _separated(file: TextIO, name: str, delimiter: str) -> Iterator[Record]:
    """The records of CSV. Raises InvalidInput where a quote is missing: what follows then has no clear end."""
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    start = 1
    try:
        header = next(reader, [])
        # A quoted field may span lines: line_num is where a record ended, so the next begins one further.
        start = reader.line_num + 1
        for values in reader:
            place, start = f"{name}:{start}", reader.line_num + 1
            columns = dict(zip_longest(header, values[: len(header)]))
            if len(values) > len(header):
                yield Record(place, columns, f"has more fields than the {len(header)} of the header; quote the text")
            elif values:
                yield Record(place, columns)
    except csv.Error as error:
        raise InvalidInput(f"{name}:{start}: not valid CSV: {error}; is a quote missing?") from error


def _parsed(line: str, place: str) -> Record:
    """One JSON line; a line that is none fails alone, and says where it stands."""
    try:
        record = json.loads(line)
    except ValueError as error:
        return Record(place, {}, f"not valid JSON: {error}")
    if not isinstance(record, dict):
        return Record(place, {}, f"must be a JSON object, got {line.strip()[:60]}")
    return Record(place, record)


def _opened(name: str) -> AbstractContextManager[TextIO]:
    return nullcontext(sys.stdout) if name == "-" else open(name, "w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
