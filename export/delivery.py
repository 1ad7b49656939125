"""What was found, as a bundle: in the repository if it proved itself, in quarantine if not."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from export import bundle_writer, golden, model_card, provenance, report, triton_graph, triton_releases
from export.bundle_writer import Contents
from export.evidence import Candidate, Evidence
from export.temperature import calibrate
from export.triton_releases import Release
from finetune.checkpoint import Checkpoint
from serving.bundle import read_bundle, write_json
from serving.calibration import TEMPERATURE
from serving.manifest import Manifest
from serving.tasks import Task, find
from serving.tensors import Row, Tensors


@dataclass(frozen=True)
class Delivery:
    """One export on its way out; ``folder`` is scratch space, ``args`` are the checked options."""

    checkpoint: Checkpoint
    task: Task
    rows: Sequence[Row]
    encoded: Sequence[Tensors]
    evidence: Evidence
    folder: Path
    args: argparse.Namespace

    def publish(self, kept: Candidate) -> dict[str, Path]:
        """Write the bundle, and the graph model if it is wanted; the version directories, by what they are.

        Raises BundleError where the golden rows are not reproduced, ExportError where the graph cannot be fitted.
        """
        args, task = self.args, self._tempered(kept)
        proof = self._proof(kept, task)
        kept = self._pinned(kept, task, proof)
        names = [args.name, *([args.name + triton_graph.SUFFIX] if args.target else [])]
        version = bundle_writer.next_version(*(args.repository / name for name in names))
        manifest = self._manifest(kept, version, proof)
        with ExitStack() as stack:
            # Both are whole and proved before either is put in place.
            model = args.target and stack.enter_context(self._graph_model(kept, manifest, task, proof))
            contents = self._contents(kept, manifest, task, proof)
            written = bundle_writer.write(args.repository, manifest, contents, args.sign)
            self.evidence.bundle = read_bundle(written).manifest
            return {"bundle": written, **({"graph": triton_graph.place(model, args.repository)} if model else {})}

    def quarantine(self) -> Path | None:
        """Write the graph that came nearest where no server takes it from; its folder, None where there is none."""
        kept = self.evidence.kept
        if kept is None:
            return None
        task = self._tempered(kept)
        proof = self._proof(kept, task)
        version = bundle_writer.next_version(self.args.quarantine / self.args.name)
        manifest = self._manifest(kept, version, proof)
        written = bundle_writer.quarantine(self.args.quarantine, manifest, self._contents(kept, manifest, task, proof))
        self.evidence.bundle = read_bundle(written).manifest
        return written

    def write_reports(self, output: Path) -> None:
        """The report as a page and as data, beside the checkpoint."""
        output.mkdir(exist_ok=True)
        write_json(output / report.JSON, report.as_json(self.evidence))
        (output / report.HTML).write_text(self._page(), "utf-8")
        print(f"report:     {output / report.HTML}")

    def _page(self) -> str:
        return report.page(self.args.name, self.evidence)

    def _tempered(self, kept: Candidate) -> Task:
        """The task as it is served: with the temperature that was fitted on this graph's answers."""
        shutil.copytree(self.checkpoint.assets, self.folder / "assets", dirs_exist_ok=True)
        if self.task.temperature is not None:
            found = calibrate(self.task, self.rows, kept.answered.answers)
            if found:
                write_json(self.folder / "assets" / TEMPERATURE, {"temperature": found.temperature})
        return find(self.checkpoint.task).open(self.folder / "assets")

    def _proof(self, kept: Candidate, task: Task) -> golden.Proof:
        assert self.evidence.reference is not None
        return golden.prove(task, self.rows, self.encoded, self.evidence.reference.answers, kept.answered.answers)

    def _contents(self, kept: Candidate, manifest: Manifest, task: Task, proof: golden.Proof) -> Contents:
        assert self.evidence.reference is not None
        self.evidence.bundle = manifest
        return Contents(
            task=task,
            graphs=dict.fromkeys(task.graphs, kept.graphed.file),
            assets=self.folder / "assets",
            golden=proof.rows,
            texts={
                report.HTML: self._page(),
                model_card.CARD: model_card.text(manifest, task, self.evidence.reference, kept),
            },
        )

    def _manifest(self, kept: Candidate, version: int, proof: golden.Proof) -> Manifest:
        return Manifest(
            name=self.args.name,
            version=version,
            task=self.checkpoint.task,
            backend=kept.graphed.backend,
            precision=kept.name,
            graphs=dict.fromkeys(self.task.graphs, f"model{kept.graphed.file.suffix}"),
            tolerance=proof.tolerance,
            max_batch_size=self.args.max_batch_size,
            batch_invariant=kept.measured.invariance.held,
            gates=[verdict.summary() for verdict in kept.verdicts],
            needs=kept.graphed.needs,
            licence=provenance.licence(self.checkpoint, self.args.licence),
            host=provenance.host(),
            quality=self.evidence.quality(),
            source={**provenance.source(self.checkpoint), "graph": provenance.graph(kept.graphed.file, self.args.to)},
        )

    def _pinned(self, kept: Candidate, task: Task, proof: golden.Proof) -> Candidate:
        """The candidate with its graph as the oldest Triton release reads it that was asked for, if one was."""
        if self.args.triton_release is None:
            return kept
        path = self.folder / "pinned.onnx"
        self._fit(kept, path, triton_releases.find(self.args.triton_release), task, proof)
        return replace(kept, graphed=replace(kept.graphed, file=path))

    def _fit(self, kept: Candidate, path: Path, release: Release, task: Task, proof: golden.Proof) -> None:
        self.evidence.remarks.append(triton_graph.fit(kept.graphed.file, path, release, task, proof))
        print(self.evidence.remarks[-1])

    def _graph_model(
        self, kept: Candidate, manifest: Manifest, task: Task, proof: golden.Proof
    ) -> AbstractContextManager[Path]:
        fitted, target = self.folder / f"fitted{kept.graphed.file.suffix}", self.args.target
        self._fit(kept, fitted, target.release, task, proof)
        return triton_graph.prepared(self.args.repository, manifest, fitted, task, target, proof.encoded)
