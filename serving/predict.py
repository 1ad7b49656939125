"""``downstream predict``: rows of a file to predictions, offline, by the engine that would serve them."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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

# A row of the input by its columns, or why a line is none.
Record = Mapping[str, Any] | DownstreamError


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
        engine = Engine.load(_bundle(args.model), Settings(capacity=2 * IN_FLIGHT))
        text_field = engine.task.inputs[0].name
        # Counting first costs one more pass over the file and gives a bar that knows its end.
        total = None if args.input == "-" else sum(1 for _ in _rows(args.input, text_field))
        with tqdm(desc="predicting", unit="row", total=total) as bar, _opened(args.output) as output:
            failed = _predict(engine, _rows(args.input, text_field), columns, args.keep, output, bar)
        engine.close()
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
    flying: deque[tuple[Record, Future[Row] | DownstreamError]] = deque()
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


def _submitted(engine: Engine, record: Record, columns: Mapping[str, str]) -> Future[Row] | DownstreamError:
    if isinstance(record, DownstreamError):
        return record
    fields = {field.name: columns.get(field.name, field.name) for field in engine.task.inputs}
    for field in engine.task.inputs:
        column = fields[field.name]
        if not field.optional and column not in record:
            found = ", ".join(map(str, record))
            return InvalidInput(
                f"no column {column!r} for {field.name!r}; the columns are {found}: use --columns {field.name}=COLUMN"
            )
    try:
        return engine.submit({name: record[column] for name, column in fields.items() if column in record})
    except DownstreamError as error:
        return error


def _written(record: Record, answer: Future[Row] | DownstreamError, keep: Sequence[str], output: TextIO) -> bool:
    """Write one line; whether the row failed."""
    kept = {} if isinstance(record, DownstreamError) else {name: record.get(name) for name in keep}
    try:
        result = {"error": str(answer)} if isinstance(answer, DownstreamError) else plain(answer.result())
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
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


def _rows(name: str, text_field: str) -> Iterator[Record]:
    """The rows of the input, one at a time. Raises NotFound for a file that is not there."""
    if name == "-":
        yield from ({text_field: line.rstrip("\n")} for line in sys.stdin)
        return
    path = Path(name)
    if not path.is_file():
        raise NotFound(f"--input: no such file, got {name!r}; give a .jsonl, .csv, .tsv or .txt file, or -")
    with path.open(encoding="utf-8-sig", newline="" if path.suffix in (".csv", ".tsv") else None) as file:
        if path.suffix in (".csv", ".tsv"):
            yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        elif path.suffix == ".jsonl":
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parsed(line, f"{path}:{number}")
        else:
            yield from ({text_field: line.rstrip("\n")} for line in file)


def _parsed(line: str, place: str) -> Record:
    """One JSON line; a line that is none fails alone, and says where it stands."""
    try:
        record = json.loads(line)
    except ValueError as error:
        return InvalidInput(f"{place}: not valid JSON: {error}")
    return record if isinstance(record, dict) else InvalidInput(f"{place}: must be a JSON object, got {line.strip()}")


def _opened(name: str) -> AbstractContextManager[TextIO]:
    return nullcontext(sys.stdout) if name == "-" else open(name, "w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
