"""Gates as a manifest has them."""

from __future__ import annotations

from typing import Any


def failed_gate(name: str, accepted: str = "") -> dict[str, Any]:
    """A gate that did not pass, and the reason for which a person took the model all the same."""
    return {"gate": name, "passed": False, "message": "too slow", "figures": {"ratio": 0.6}, "accepted": accepted}


def passed_gate(name: str) -> dict[str, Any]:
    """A gate that passed."""
    return {"gate": name, "passed": True, "message": "held", "figures": {"flips": 0}, "accepted": ""}
