"""The demo's data set: support tickets that are to be routed to a queue, invented from a seed.

A ticket is made in two steps. First it is decided what happened: which queue's issue it is, whether there is a second
one, and to which queue a fallible human routed it. Then a customer writes it down: sentences of several types around
the issue, mentions of other queues' topics that mean nothing, a tone, a length, typos. So the label follows from what
is said, not from which words occur; and part of the labels (two concerns, vague texts, slips) cannot be foreseen.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from demo.phrases import Issue, PhraseBook, Queue, Voice, phrase_book

TWO_CONCERNS = 0.10
MAIN_CONCERN_WINS = 0.66
VAGUE = 0.03
SLIPS = 0.03

LONGEST = 120
_BUDGET = 11.5
_SPREAD = 0.68
_SHORT = 6

# The order in which the sentences of one ticket are told, whatever the order in which they were thought of.
_TOLD = ("opening", "setting", "first", "before", "symptom", "cause", "effort", "mood", "request", "last", "urgency")


@dataclass(frozen=True)
class Ticket:
    """One support ticket: its text as it came in, and the queue it was routed to."""

    text: str
    label: str


@dataclass(frozen=True)
class Case:
    """What is behind one ticket: the queues concerned, main one first; whether the text tells; where it was routed."""

    concerns: tuple[str, ...]
    vague: bool
    label: str


def generate(rows: int, seed: int) -> list[Ticket]:
    """``rows`` tickets, the same for the same seed; a shorter list is the beginning of a longer one.

    No two texts are alike, not even up to their digits, letter case and punctuation.
    """
    rng, book = Random(seed), phrase_book()
    tickets: list[Ticket] = []
    seen: set[str] = set()
    while len(tickets) < rows:
        case = invent(rng, book)
        text = tell(case, rng, book)
        key = re.sub(r"\d+", "0", re.sub(r"\W+", " ", text)).strip().casefold()
        if key not in seen and 3 <= len(text.split()) <= LONGEST:
            seen.add(key)
            tickets.append(Ticket(text, case.label))
    return tickets


def write(path: Path, tickets: Sequence[Ticket]) -> None:
    """Write tickets with the columns ``text`` and ``queue``, as CSV or as JSON lines by the file's suffix.

    Raises ValueError for any other suffix.
    """
    rows = [{"text": ticket.text, "queue": ticket.label} for ticket in tickets]
    if path.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{path}: the suffix is {path.suffix!r}; use .csv or .jsonl")
    # newline="": texts hold line breaks, and the csv module writes its own line ends.
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, ("text", "queue"), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_splits(folder: Path, rows: int = 4000, seed: int = 13) -> None:
    """Write ``train.csv``, ``validation.csv`` and ``test.csv`` into ``folder``, as ``split`` divides them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tickets in split(generate(rows, seed)).items():
        write(folder / f"{name}.csv", tickets)


def split(tickets: Sequence[Ticket]) -> dict[str, list[Ticket]]:
    """Tickets as ``train`` (80 %), ``validation`` and ``test`` (10 % each), with equal shares of every label.

    Sorted by label, every ninth of ten tickets goes to validation and every tenth to test, so shares differ by at most
    one ticket; inside a split the tickets stand in the order in which they were given.
    """
    by_label = sorted(range(len(tickets)), key=lambda i: tickets[i].label)
    part = {i: {8: "validation", 9: "test"}.get(place % 10, "train") for place, i in enumerate(by_label)}
    return {
        name: [ticket for i, ticket in enumerate(tickets) if part[i] == name]
        for name in ("train", "validation", "test")
    }


def invent(rng: Random, book: PhraseBook) -> Case:
    """One case: what the customer is concerned about, and where a human router, who errs, has sent the ticket."""
    names = list(book.queues)
    main = rng.choices(names, [queue.share for queue in book.queues.values()])[0]
    concerns: tuple[str, ...] = (main,)
    vague = rng.random() < VAGUE and any(main in entry.queues for entry in book.vague)
    if not vague and rng.random() < TWO_CONCERNS:
        concerns = (main, rng.choice(book.queues[main].near))
    label = main if rng.random() < MAIN_CONCERN_WINS else concerns[-1]
    if rng.random() < SLIPS:
        label = rng.choice([name for name in book.queues[label].near if name not in concerns])
    return Case(concerns, vague, label)


def tell(case: Case, rng: Random, book: PhraseBook) -> str:
    """The text of a case, as a customer would write it; about log-normal in length."""
    voice = Voice(book, rng)
    main = book.queues[case.concerns[0]]
    budget = math.exp(rng.gauss(math.log(_BUDGET), _SPREAD))
    if case.vague:
        entry = rng.choice([entry for entry in book.vague if main.name in entry.queues])
        return _frame([voice.say(entry.text)], min(budget, 14), voice)
    issue = _one_of(main.issues, rng)
    if len(case.concerns) == 1 and budget < _SHORT:
        return _hurry(voice.mutter(rng.choice(issue.short)), voice)
    near = [name for name in main.near if name not in (*case.concerns, *issue.clash)]
    other = book.queues[rng.choice(near)]
    _recall(issue, other, voice)
    body = _story(issue, other, budget, voice)
    if len(case.concerns) == 2:
        body = _with_second(body, _one_of(book.queues[case.concerns[1]].issues, rng), voice)
    return _frame(body, budget, voice)


def _one_of(issues: Sequence[Issue], rng: Random) -> Issue:
    """One issue; the first ones in the book are the common ones, and the tail is long."""
    return rng.choices(issues, [1 / (rank + 3) for rank in range(len(issues))])[0]


def _recall(issue: Issue, other: Queue, voice: Voice) -> None:
    """Settle what the ticket may quote: its own issue, and an earlier matter of a queue that is not concerned now."""
    past = _one_of(other.issues, voice.rng)
    voice.recall("topic", voice.mutter(voice.rng.choice(other.topic)))
    voice.recall("short", voice.say(issue.short))
    for slot, quoted in (("past", past), ("own", issue)):
        complete = [symptom for symptom in quoted.symptom if not symptom.startswith("^")]
        voice.recall(slot, voice.say(complete).rstrip("."))


def _story(issue: Issue, other: Queue, budget: float, voice: Voice) -> list[str]:
    """Sentences about one issue in the order of telling, until the budget of words is spent."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    told["before"], told["symptom"] = _complaint(issue, voice)
    own: Mapping[str, Sequence[str]] = {"before": issue.before, "cause": issue.cause, "request": issue.request}
    kinds = ["request", "before", "cause", "aside", "earlier"]
    rest = ["aside", "earlier", "cause", "opening", "setting", "effort", "mood", "urgency"]
    voice.rng.shuffle(kinds)
    voice.rng.shuffle(rest)
    for kind in kinds + rest:
        if sum(len(sentence.split()) for sentences in told.values() for sentence in sentences) >= budget:
            break
        place = voice.rng.choice(("first", "last")) if kind in ("aside", "earlier") else kind
        if told[place] and kind != "cause":
            continue
        voice.recall("aside", voice.say(other.aside))
        told[place].append(voice.say(own.get(kind) or voice.book.frame[place if kind == "aside" else kind]))
    return [sentence for kind in _TOLD for sentence in dict.fromkeys(told[kind])]


def _complaint(issue: Issue, voice: Voice) -> tuple[list[str], list[str]]:
    """A symptom of the issue and, where the symptom refers back to it, what happened before."""
    symptom = voice.rng.choice(issue.symptom)
    before = [voice.say(issue.before)] if symptom.startswith("^") else []
    return before, [voice.say([symptom.removeprefix("^")])]


def _with_second(body: Sequence[str], second: Issue, voice: Voice) -> list[str]:
    """The body with a second concern, mostly after the first one; so the order says a little about the label."""
    before, symptom = _complaint(second, voice)
    sentences = [*before, *symptom, *([voice.say(second.request)] if voice.often(0.5) else [])]
    if voice.often(0.25):
        body, sentences = sentences, list(body)
    opening = [voice.frame("two")] if voice.often(0.3) else []
    return [*opening, *body, f"{voice.frame('second')} {sentences[0]}", *sentences[1:]]


def _frame(body: Sequence[str], budget: float, voice: Voice) -> str:
    """The sentences as a message: greeting, sign-off, the customer's haste, and what mail programs leave around it."""
    gap, line = ("\n\n", "\n") if voice.often(0.45) else (" ", " ")
    greeting = voice.frame("greeting") if voice.often(0.45) else ""
    closing = [voice.frame("closing")] if voice.often(0.3) and budget > 12 else []
    sign = voice.frame("sign") + line + voice.mutter("{name}") if voice.often(0.3) and budget > 12 else ""
    text = _hurry(gap.join(part for part in (greeting, " ".join([*body, *closing]), sign) if part), voice)
    if budget > 14 and voice.often(0.12):
        voice.recall("subject", voice.frame("subject"))
        before = voice.book.frame["forwarded"] if voice.often(0.4) else ["Subject: {subject}\n\n"]
        text = voice.say(before) + text
    if budget > 20 and voice.often(0.15):
        voice.recall("reply", voice.frame("reply" if voice.often(0.7) else "pending"))
        text += voice.mutter(voice.rng.choice(voice.book.frame["quoted"]))
    elif sign and voice.often(0.12):
        text += "\n\n" + voice.mutter(voice.rng.choice(voice.book.frame["mobile"]))
    return text


def _hurry(text: str, voice: Voice) -> str:
    """The text as typed by a careful, a hasty or a chatting customer: typos, short forms, lost capitals and stops."""
    rng = voice.rng
    manner = rng.choices(("careful", "hasty", "chat"), (0.55, 0.30, 0.15))[0]
    if manner == "careful":
        return _typos(text, 0.004, voice)
    text = _abbreviate(text, 0.25 if manner == "hasty" else 0.6, voice)
    lost = 0.08 if manner == "hasty" else 0.7
    text = re.sub(r"[.,!?;](?=\s|$)", lambda mark: "" if rng.random() < lost else mark[0], text)
    if manner == "chat":
        text = text.lower()
    elif voice.often(0.4):
        text = text[:1].lower() + text[1:]
    return _typos(text, 0.03, voice)


def _abbreviate(text: str, chance: float, voice: Voice) -> str:
    """The text with the usual short forms of chat for some of its words."""
    short = {word.casefold(): form for word, form in voice.book.abbreviations.items()}
    # Longest first, so that "thank you" is not cut into "thank u".
    words = "|".join(sorted(short, key=len, reverse=True))
    return re.sub(
        rf"\b({words})\b",
        lambda word: short[word[0].casefold()] if voice.often(chance) else word[0],
        text,
        flags=re.IGNORECASE,
    )


def _typos(text: str, rate: float, voice: Voice) -> str:
    """The text with slips of the keyboard in some of its words; addresses, numbers and codes are left alone."""
    return re.sub(
        r"(?<![\w@.])[A-Za-z]{4,}(?![\w@]|\.\w)",
        lambda word: _typo(word[0], voice) if voice.often(rate) else word[0],
        text,
    )


def _typo(word: str, voice: Voice) -> str:
    """The word with one letter dropped, doubled, swapped with the next, or replaced by a neighbour on the keyboard."""
    i = voice.rng.randrange(1, len(word) - 1)
    letter = word[i]
    wrong = {
        "drop": "",
        "double": letter * 2,
        "swap": word[i + 1] + letter,
        "slip": voice.rng.choice(voice.book.neighbours.get(letter.lower(), letter)),
    }
    kind = voice.rng.choice(list(wrong))
    return word[:i] + wrong[kind] + word[i + (2 if kind == "swap" else 1) :]
