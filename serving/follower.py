"""The repository of a process that serves what another one admitted."""

from __future__ import annotations

import threading

from serving.admission import Admission, State
from serving.repository import Repository


class Follower:
    """Does to a repository what was done to that of the process that leads: see Followers."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        # A leader that ended may have left a change half done, when the next one begins.
        self._changing = threading.Lock()

    def stage(self, admission: Admission) -> None:
        """Open an admitted version beside what serves; its golden rows were replayed where it was admitted."""
        repository = self._repository
        with self._changing:
            if admission.ident not in {known.ident for known in repository.admitted.values()}:
                repository.admitted[repository.open_admitted(admission)] = admission

    def follow(self, state: State) -> None:
        """Serve what was staged, as the state says, and close the rest."""
        with self._changing:
            self._repository.adopt(state)
