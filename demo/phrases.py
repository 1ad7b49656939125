"""The demo's phrase book: sentence templates with choices and slots, and a voice that speaks them.

A template is plain text with two marks. ``[a|b|]`` is one of its alternatives, at random, and may nest; ``{order}`` is
a slot, filled once for each ticket, so that one ticket speaks of one order, one product and one amount throughout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from typing import Any

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class Issue:
    """One concrete problem of a queue: its sentences by type, and the queues whose asides would contradict it.

    A symptom that starts with ``^`` refers back ("Since then ...") and needs a sentence of ``before`` in front of it.
    """

    short: tuple[str, ...]
    before: tuple[str, ...]
    symptom: tuple[str, ...]
    cause: tuple[str, ...]
    request: tuple[str, ...]
    clash: tuple[str, ...] = ()


@dataclass(frozen=True)
class Queue:
    """A team that answers tickets: its share of them, its issues, and how other queues' tickets mention them.

    ``near`` names the queues whose tickets are alike: they are mentioned in passing, and slips of routing go there.
    """

    name: str
    share: float
    near: tuple[str, ...]
    topic: tuple[str, ...]
    aside: tuple[str, ...]
    issues: tuple[Issue, ...]


@dataclass(frozen=True)
class Vague:
    """Texts that fit several queues equally well: nobody can route them by their words."""

    queues: tuple[str, ...]
    text: tuple[str, ...]


@dataclass(frozen=True)
class PhraseBook:
    """Everything a ticket can say, as read from ``phrases.json``."""

    queues: Mapping[str, Queue]
    vague: tuple[Vague, ...]
    frame: Mapping[str, Sequence[str]]
    slots: Mapping[str, Sequence[str]]
    abbreviations: Mapping[str, str]
    neighbours: Mapping[str, str]


@cache
def phrase_book() -> PhraseBook:
    """The phrase book that ships with the demo, read on first use."""
    read: dict[str, Any] = json.loads(resources.files("demo").joinpath("phrases.json").read_text(encoding="utf-8"))
    return PhraseBook(
        queues={name: _queue(name, entry) for name, entry in read["queues"].items()},
        vague=tuple(Vague(**_tuples(entry)) for entry in read["vague"]),
        frame=read["frame"],
        slots=read["slots"],
        abbreviations=read["abbreviations"],
        neighbours=read["neighbours"],
    )


def _queue(name: str, entry: Mapping[str, Any]) -> Queue:
    plain = {key: tuple(entry[key]) for key in ("near", "topic", "aside")}
    issues = tuple(Issue(**_tuples(issue)) for issue in entry["issues"].values())
    return Queue(name=name, share=entry["share"], issues=issues, **plain)


def _tuples(entry: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(texts) for key, texts in entry.items()}


class Voice:
    """The writer of one ticket: speaks templates and remembers what each slot stood for."""

    def __init__(self, book: PhraseBook, rng: Random) -> None:
        self.book = book
        self.rng = rng
        self._facts = _figures(rng) | _dates(rng)

    def recall(self, slot: str, text: str) -> None:
        """Fix what a slot stands for from now on."""
        self._facts[slot] = text

    def say(self, templates: Sequence[str]) -> str:
        """One of the templates, with choices made and slots filled, beginning with a capital."""
        text = self.mutter(self.rng.choice(templates))
        return text[:1].upper() + text[1:]

    def frame(self, part: str) -> str:
        """One of the phrases around an issue that all queues share, such as ``greeting``."""
        return self.say(self.book.frame[part])

    def often(self, chance: float) -> bool:
        """True with this chance."""
        return self.rng.random() < chance

    def mutter(self, template: str) -> str:
        """This template with choices made and slots filled, as it stands.

        Raises KeyError for a slot that neither the phrase book nor this voice knows.
        """
        text = template
        # Innermost first: a choice without brackets inside it is always there, as long as there is any choice.
        while mark := _CHOICE.search(text):
            text = text[: mark.start()] + self.rng.choice(mark[1].split("|")) + text[mark.end() :]
        text = _SLOT.sub(lambda slot: self._fact(slot[1]), text)
        # An empty alternative leaves two spaces, or one before the full stop.
        return re.sub(r" +(?=[ .,?!:]|$)", "", text)

    def _fact(self, slot: str) -> str:
        if slot not in self._facts:
            # A numbered slot without an entry of its own (given2) is another draw from the plain one.
            choices = self.book.slots.get(slot) or self.book.slots[slot.rstrip("0123456789")]
            self._facts[slot] = self.mutter(self.rng.choice(choices))
        return self._facts[slot]


def _figures(rng: Random) -> dict[str, str]:
    """Numbers and prices of one ticket; the second price is a little lower than the first."""
    price = rng.choice((4.9, 7.9, 9.99, 12.5, 14.9, 19.99, 24.0, 29.9, 39.9, 49.0, 59.95, 79.9, 118.8, 149.0, 239.4))
    digits = {f"digits{n}": str(rng.randrange(10_000, 99_999)) for n in ("", 2, 3, 4)}
    return digits | {"price": f"{price:.2f}", "price2": f"{price * rng.uniform(0.55, 0.9):.2f}"}


def _dates(rng: Random) -> dict[str, str]:
    """Days of one ticket in one spelling: ``day`` is past, ``day2`` some days later, ``due`` in the weeks to come."""
    spelling = rng.choice(("{d} {m}", "{d} {m}", "{m} {d}", "{d:02}/{n:02}", "{d}.{n}.24"))
    month, day = rng.randrange(2, 11), rng.randrange(1, 20)

    def spell(months_later: int, days_later: int) -> str:
        n = month + months_later
        return spelling.format(d=day + days_later, n=n, m=_MONTHS[n - 1])

    return {
        "day": spell(0, 0),
        "day2": spell(0, rng.randrange(3, 9)),
        "due": spell(1, rng.randrange(0, 9)),
        "month": _MONTHS[month - 1],
        "month0": _MONTHS[month - 2],
    }
