"""``make bench-train``: ``downstream finetune``, transformers' example and hand-written loops, in rounds."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from finetune.bench import figures, job
from finetune.faults import RecipeError
from serving.bundle import write_json
from serving.settings import read_available_cores

RECIPES = (Path("finetune/recipes/sst2.yaml"), Path("finetune/recipes/tickets.yaml"))
SST2 = Path("../shared/data/sst2/train.jsonl")


class ContenderFailed(Exception):
    """A contender ended with an error; the text is the end of what it said."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m finetune.bench",
        description="Tokens a second and peak memory of fine-tuning: `downstream finetune` as it is, transformers' "
        "run_classification example (every row padded to max_length), and a hand-written PyTorch loop with random and "
        "with sorted batches. All train the same base model on the same rows, the same number of steps and rows a "
        "step, in the same precision and on the same threads, each in a process of its own and all in every round.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python -m finetune.bench                                   SST-2 where it lies beside the project, else tickets
  python -m finetune.bench my.yaml --steps 50 --rows 32      your model and your data, as your recipe has them
  python -m finetune.bench --markdown table.md training.precision=bf16

How to read it: tokens are real ones, padding does not count, so padding less shows as more tokens a second. Read the
ratios, each taken inside one round, and their spread: the absolute figures change with what else the machine does.""",
    )
    command.add_argument("recipe", type=Path, nargs="?", help="a recipe with a pretrained base, and its data")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="set a key of the recipe")
    command.add_argument("--rounds", type=int, default=3, help="times every contender runs (default 3)")
    command.add_argument("--steps", type=int, default=16, help="optimizer steps of a run, 3 of them to warm up (16)")
    command.add_argument("--rows", type=int, default=16, help="rows of a step (default 16)")
    command.add_argument("--max-length", type=int, help="tokens a row may have (default: the recipe's)")
    command.add_argument("--threads", type=int, default=0, help="of every contender (default: the cores there are)")
    command.add_argument("--output", type=Path, default=Path("bench-report"), help="folder of train.json and logs")
    command.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 2 when the recipe cannot be used, 1 when a contender fails."""
    args = parser().parse_intermixed_args(argv)
    recipe, overrides = _recipe(args)
    args.output.mkdir(parents=True, exist_ok=True)
    threads = args.threads or read_available_cores()
    try:
        with tempfile.TemporaryDirectory(prefix="downstream-bench-") as folder:
            work = job.write(recipe, overrides, args.steps, args.rows, Path(folder))
            runs = _rounds(args.rounds, work, threads, args.output)
    except (RecipeError, ContenderFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, RecipeError) else 1
    words = ["python", "-m", "finetune.bench", *(sys.argv[1:] if argv is None else argv)]
    setting = {"command": shlex.join(words), "recipe": str(recipe), **_machine(threads)}
    report = {contender: [asdict(run) for run in rounds] for contender, rounds in runs.items()}
    write_json(args.output / "train.json", {**setting, "runs": report})
    print(_page(runs, setting, figures.text_table))
    if args.markdown:
        args.markdown.write_text(_page(runs, setting, figures.markdown_table), "utf-8")
    return 0


def _recipe(args: argparse.Namespace) -> tuple[Path, list[str]]:
    """The recipe to take and the overrides; a first word with ``=`` is an override already."""
    default = RECIPES[0] if SST2.is_file() else RECIPES[1]
    words = [str(args.recipe), *args.overrides] if args.recipe else []
    recipe = Path(words.pop(0)) if words and "=" not in words[0] else default
    return recipe, [*words, *([f"max_length={args.max_length}"] if args.max_length else [])]


def _rounds(rounds: int, recipe: Path, threads: int, output: Path) -> dict[str, list[figures.Run]]:
    commands = {
        figures.PRODUCT: ["downstream", str(recipe), "--overwrite"],
        figures.EXAMPLE: ["finetune.bench.run_classification", str(recipe)],
        figures.LOOP: ["finetune.bench.loop", str(recipe)],
        figures.SORTED_LOOP: ["finetune.bench.loop", str(recipe), "--sorted"],
    }
    runs: dict[str, list[figures.Run]] = {contender: [] for contender in commands}
    with tqdm(total=rounds * len(commands), unit="run", desc="bench") as bar:
        for number in range(rounds):
            for contender, words in commands.items():
                bar.set_postfix_str(contender)
                run = _run(words, recipe.parent, threads, output / "train.log")
                runs[contender].append(run)
                bar.write(f"round {number + 1}/{rounds}  {contender:30} {run.rate:8,.0f} tokens/s  {run.peak:6.0f} MiB")
                bar.update()
    return runs


def _run(words: Sequence[str], folder: Path, threads: int, log: Path) -> figures.Run:
    """One contender in a process of its own, from its start to its end."""
    module, recipe, *options = words
    own = module == "downstream"
    output = folder / ("run" if own else "other")
    output.mkdir(exist_ok=True)
    command = [sys.executable, "-m", module, *(["finetune", recipe] if own else [recipe, str(output)]), *options]
    # The same threads for all, and nothing asked of the hub: its answers are no part of training.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "1"}
    started = time.perf_counter()
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        end = log.read_text("utf-8", "replace").splitlines()[-15:]
        raise ContenderFailed(f"{shlex.join(command)} ended with {process.returncode}:\n" + "\n".join(end))
    found = _told(output / ("metrics.json" if own else "figures.json"))
    return figures.Run(**found["speed"], stages=found["stages"], wall=wall, peak=usage.ru_maxrss / 1024)


def _told(path: Path) -> Mapping[str, Any]:
    """What a contender wrote; the product has it in a section of its metrics."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    told: dict[str, Any] = found.get("training", found)
    return told


def _machine(threads: int) -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    widest = next((name for name in ("amx_tile", "avx512_bf16", "avx512f", "avx2") if name in flags), "no AVX2")
    return {
        "machine": f"{named[0] if named else platform.machine()} ({widest}), {threads} of {os.cpu_count()} cores",
        "versions": f"torch {version('torch')}, transformers {version('transformers')}",
    }


def _page(runs: figures.Runs, setting: Mapping[str, str], table: Any) -> str:
    told = "\n".join(f"    {name}: {value}" for name, value in setting.items())
    return "\n\n".join(
        [
            told,
            table(figures.HEADINGS, figures.speed_rows(runs)),
            table(figures.STAGE_HEADINGS, figures.stage_rows(runs)),
        ]
    ) + "\n"  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
