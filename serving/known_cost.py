"""What runs of a loaded model cost: read, or measured and kept, at load, and corrected by every run."""

from __future__ import annotations

import os

from serving import cost, cost_file, processor, proof
from serving.bundle import Bundle
from serving.cost import CostModel, Learner
from serving.model import Model
from serving.scheduler.runners import Batch
from serving.settings import Settings, read_available_cores


class KnownCost:
    """The cost model of one engine; ``source`` says where it came from."""

    def __init__(self, model: CostModel, source: str) -> None:
        self.source = source
        self._learner = Learner(model)

    @property
    def model(self) -> CostModel:
        """As far as is known now."""
        return self._learner.model

    def learn(self, batch: Batch) -> bool:
        """Count a run; whether it corrected the model."""
        return self._learner.learn(len(batch.lengths), max(batch.lengths), batch.seconds)


def of(model: Model, bundle: Bundle, settings: Settings, runners: int, most_rows: int) -> KnownCost:
    """The costs that were kept of these files on this machine, if a run agrees with them; else measured and kept."""
    folder = cost_file.folder(settings.cache_dir, os.environ)
    here = processor.read()
    file = folder and cost_file.path(
        folder,
        files=dict(bundle.manifest.files),
        backend=[bundle.manifest.backend, settings.triton_graphs],
        # With its instruction sets: they decide which kernels run, and many clouds give all of theirs one name.
        processor=[here.name, here.machine, sorted(here.features)],
        cores=read_available_cores(),
        runners=runners,
        most_rows=most_rows,
    )
    kept = file and cost_file.read(file)
    if kept and proof.agrees(model, kept):
        return KnownCost(kept, f"measured before, from {file}")
    measured = cost.fit(proof.measure(model, settings.warm_up, most_rows))
    if file:
        # Not what is learned later, which is of the load that was there.
        cost_file.write(file, measured)
    return KnownCost(measured, "measured at this start")
