"""``downstream bundle``: what may be done with a version that export wrote, without what trained it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bundles import archive, comparison, description, place, transfer, verification
from bundles.command_line import parser
from bundles.console import console, heading, line
from bundles.parts import in_bytes
from serving import signature
from serving.errors import AlreadyExists, BundleError, DownstreamError, InvalidInput, fault

NO, NOT_DONE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    try:
        return _COMMANDS[args.command](args, console())
    except (DownstreamError, OSError) as error:
        print(f"downstream bundle {args.command}: {error}", file=sys.stderr)
        refused = isinstance(error, BundleError | AlreadyExists) and args.command != "diff"
        return NO if refused else NOT_DONE


def _verify(args: argparse.Namespace, output: Console) -> int:
    _check_key(args)
    results = []
    for path in args.paths:
        try:
            with place.versions(path) as folders:
                results += [_verified(folder, args, output) for folder in folders]
        except BundleError as error:
            # An archive that cannot be opened is one more that is wrong; the paths behind it are still looked at.
            results.append(_unopened(path, error, args, output))
    wrong = [result for result in results if not result["ok"]]
    if args.json:
        _print_json({"ok": not wrong, "versions": results})
    else:
        many = f"{len(results)} version{'s' * (len(results) != 1)}"
        heading(output, f"{many}, {f'{len(wrong)} of them wrong' if wrong else 'all good'}")
    return NO if wrong else 0


def _verified(folder: Path, args: argparse.Namespace, output: Console) -> dict[str, Any]:
    if not args.json:
        heading(output, place.label(folder))
    checks = []
    for check in verification.verify(folder, args.require_signature):
        checks.append(asdict(check))
        if not args.json:
            line(output, check.passed, check.name, check.message)
    return {"version": place.label(folder), "ok": all(check["passed"] for check in checks), "checks": checks}


def _unopened(path: Path, error: BundleError, args: argparse.Namespace, output: Console) -> dict[str, Any]:
    check = verification.Check("archive", False, str(error).removeprefix(f"{path}: "))
    if not args.json:
        heading(output, str(path))
        line(output, check.passed, check.name, check.message)
    return {"version": str(path), "ok": False, "checks": [asdict(check)]}


def _show(args: argparse.Namespace, output: Console) -> int:
    with place.newest(args.path) as folder:
        told = description.describe(folder)
    if args.json:
        _print_json(told)
    else:
        description.show(output, told)
    return 0


def _diff(args: argparse.Namespace, output: Console) -> int:
    first, second = _two(args.paths)
    with ExitStack() as stack:
        folders = [stack.enter_context(place.newest(path)) for path in (first, second)]
        found = comparison.compare(*folders)
        names = [place.label(folder) for folder in folders]
    if args.json:
        _print_json({"equal": not found.differences, **asdict(found)})
    else:
        comparison.show(output, names if names[0] != names[1] else [str(first), str(second)], found)
    return NO if found.differences else 0


def _two(words: Sequence[str]) -> tuple[Path, Path]:
    """The two paths that the words of diff mean: ``A B``, or ``MODEL 1 2``. Raises InvalidInput."""
    if len(words) == 2:
        return Path(words[0]), Path(words[1])
    if len(words) == 3 and all(place.VERSION.fullmatch(word) for word in words[1:]):
        return Path(words[0]) / words[1], Path(words[0]) / words[2]
    raise InvalidInput(fault("paths", "must be two, or a model and two versions", " ".join(words), "see --help"))


def _pack(args: argparse.Namespace, output: Console) -> int:
    with place.newest(args.path) as folder:
        target = args.output or Path(f"{folder.parent.name}-{folder.name}.tar.gz")
        digest = archive.pack(folder, target)
    print(f"packed:     {target} ({in_bytes(target.stat().st_size)})\nsha256:     {digest}")
    return 0


def _push(args: argparse.Namespace, output: Console) -> int:
    with place.newest(args.path) as folder:
        done = transfer.push(folder, args.url)
    print(f"pushed:     {done.place}" if done.new else f"there:      {done.place}, the same already; nothing to do")
    return 0


def _pull(args: argparse.Namespace, output: Console) -> int:
    _check_key(args)
    done = transfer.pull(args.url, args.repository, args.require_signature)
    print(f"pulled:     {done.place}" if done.new else f"there:      {done.place}, the same already; nothing to do")
    return 0


def _check_key(args: argparse.Namespace) -> None:
    """Raise InvalidInput, before any work, for a key that no signature can be compared with."""
    if args.require_signature:
        signature.verifier(args.require_signature)


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    print()


_COMMANDS = {"verify": _verify, "show": _show, "diff": _diff, "pack": _pack, "push": _push, "pull": _pull}


if __name__ == "__main__":
    sys.exit(main())
