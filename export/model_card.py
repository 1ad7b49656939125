"""The model card of a bundle: Markdown with the metadata that model hubs read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from export.evidence import Candidate
from export.gates.case import Verdict
from export.verification import Answered
from serving.manifest import Manifest
from serving.tasks import Task

CARD = "README.md"


def text(manifest: Manifest, task: Task, reference: Answered, kept: Candidate) -> str:
    """The card. Source of the metadata: huggingface.co/docs/hub/model-cards, "Model card metadata"."""
    answered = kept.answered
    front = {
        "license": manifest.licence,
        "base_model": str(manifest.source["base_model"]),
        "pipeline_tag": manifest.task,
        "library_name": "downstream",
        "tags": [manifest.backend, manifest.precision],
        "model-index": [
            {
                "name": manifest.name,
                "results": [
                    {
                        "task": {"type": manifest.task},
                        "dataset": {"name": "validation split", "type": manifest.source["data_digest"]},
                        "metrics": [{"type": answered.metric, "value": round(answered.value, 5)}],
                    }
                ],
            }
        ],
    }
    body = [
        f"# {manifest.name}, version {manifest.version}",
        f"{manifest.task}, {manifest.precision}, fine-tuned from {manifest.source['base_model']} "
        f"(revision {manifest.source['base_revision']}). Licence: {manifest.licence}.",
        "## What it takes and gives",
        *_fields("takes", task.inputs),
        *_fields("gives", task.outputs),
        "## What it is worth",
        f"{answered.metric} {answered.value:.4f} [{answered.interval[0]:.4f}, {answered.interval[1]:.4f}] on "
        f"{len(answered.answers):,} validation rows, where PyTorch has {reference.value:.4f}; "
        f"{100 * answered.agreement:.2f} % of the labels are PyTorch's. The validation split chose the checkpoint: "
        "expect a little less on new data.",
        "## What was checked",
        *(_gate(verdict) for verdict in kept.verdicts),
    ]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n" + "\n\n".join(body) + "\n"


def _fields(verb: str, fields: Sequence[Any]) -> list[str]:
    return [f"- {verb} `{field.name}` ({field.dtype}): {field.doc}" for field in fields]


def _gate(verdict: Verdict) -> str:
    mark = "passed" if verdict.passed else f"FAILED, accepted because: {verdict.accepted}"
    return f"- {verdict.gate}: {mark}. {verdict.message}"
