"""The demo's tickets: repeatable, imbalanced, varied in length, learnable, and not solvable by counting words."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from demo.phrases import Voice, phrase_book
from demo.tickets import LONGEST, Case, Ticket, generate, invent, split, tell, write, write_splits


@pytest.fixture(scope="module")
def tickets() -> list[Ticket]:
    return generate(4000, seed=13)


def test_a_seed_gives_the_same_tickets_and_another_seed_others(tickets: list[Ticket]) -> None:
    assert generate(300, seed=13) == tickets[:300]
    assert len({t.text for t in generate(300, seed=14)} & {t.text for t in tickets[:300]}) < 10


def test_the_state_of_the_global_generator_does_not_matter(tickets: list[Ticket]) -> None:
    import random

    random.seed(0)
    assert generate(20, seed=13) == tickets[:20]


def test_queues_are_imbalanced_as_declared(tickets: list[Ticket]) -> None:
    share = {label: count / len(tickets) for label, count in Counter(t.label for t in tickets).items()}
    assert set(share) == set(phrase_book().queues)
    assert 0.25 <= max(share.values()) <= 0.31
    assert 0.03 <= min(share.values()) <= 0.05
    # Slips and second concerns move a label at most a little from its queue's share of the cases.
    assert all(abs(share[name] - queue.share) < 0.04 for name, queue in phrase_book().queues.items())


def test_lengths_are_about_log_normal(tickets: list[Ticket]) -> None:
    words = [len(t.text.split()) for t in tickets]
    assert min(words) >= 3
    assert max(words) <= LONGEST
    assert 19 <= statistics.median(words) <= 25
    logs = [math.log(count) for count in words]
    assert 0.55 <= statistics.stdev(logs) <= 0.85
    assert abs(statistics.mean(logs) - math.log(22)) < 0.2
    assert sum(count <= 6 for count in words) > 100
    assert sum(count >= 70 for count in words) > 40


def test_no_text_occurs_twice_not_even_with_other_numbers_or_capitals(tickets: list[Ticket]) -> None:
    keys = {re.sub(r"\d+", "0", re.sub(r"\W+", " ", t.text)).strip().casefold() for t in tickets}
    assert len(keys) == len(tickets)


def test_splits_are_disjoint_and_stratified(tickets: list[Ticket]) -> None:
    splits = split(tickets)
    assert {name: len(part) for name, part in splits.items()} == {"train": 3200, "validation": 400, "test": 400}
    texts = {name: {t.text for t in part} for name, part in splits.items()}
    assert sum(len(part) for part in texts.values()) == len(set().union(*texts.values())) == 4000
    whole = Counter(t.label for t in tickets)
    for name, fraction in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        count = Counter(t.label for t in splits[name])
        assert all(abs(count[label] - fraction * whole[label]) <= 2 for label in whole), name


def test_splits_keep_the_order_of_the_tickets(tickets: list[Ticket]) -> None:
    place = {t.text: i for i, t in enumerate(tickets)}
    for part in split(tickets).values():
        places = [place[t.text] for t in part]
        assert places == sorted(places)


def test_write_splits_writes_three_files_that_read_back(tmp_path: Path) -> None:
    write_splits(tmp_path / "new" / "folder", rows=200, seed=3)
    expected = split(generate(200, seed=3))
    for name in ("train", "validation", "test"):
        with (tmp_path / "new" / "folder" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [Ticket(row["text"], row["queue"]) for row in rows] == expected[name]


AWKWARD = [
    Ticket('He said "no, never", twice,\nthen hung up.', "billing"),
    Ticket("Zürich, €12.50\r\n\r\n> quoted; 'single' and \"double\"", "data privacy"),
    Ticket("plain and short", "bug"),
]


def test_csv_keeps_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", AWKWARD)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["text", "queue"]
    assert [Ticket(*row) for row in rows] == AWKWARD


def test_json_lines_hold_one_row_a_line(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", AWKWARD)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"text": t.text, "queue": t.label} for t in AWKWARD]


def test_another_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv or \.jsonl"):
        write(tmp_path / "a.xlsx", AWKWARD)
    assert not list(tmp_path.iterdir())


def test_a_tenth_of_the_cases_has_two_concerns_and_a_few_are_misrouted() -> None:
    rng, book = Random(1), phrase_book()
    cases = [invent(rng, book) for _ in range(20_000)]
    two = [case for case in cases if len(case.concerns) == 2]
    assert 0.08 <= len(two) / len(cases) <= 0.12
    assert 0.6 <= sum(case.label == case.concerns[0] for case in two) / len(two) <= 0.7
    assert 0.025 <= sum(case.label not in case.concerns for case in cases) / len(cases) <= 0.035
    # The best that anyone could do who understands every text, but cannot guess slips and the router's choices.
    clear = sum(case.label == case.concerns[0] and not case.vague for case in cases) / len(cases)
    assert 0.90 <= clear <= 0.93


def test_every_template_of_the_book_can_be_spoken() -> None:
    book = phrase_book()
    voice = Voice(book, Random(0))
    for slot in ("topic", "short", "past", "own", "aside", "subject", "reply"):
        voice.recall(slot, "something")
    issues = [issue for queue in book.queues.values() for issue in queue.issues]
    templates = [text for queue in book.queues.values() for text in queue.aside + queue.topic]
    templates += [text for i in issues for text in i.short + i.before + i.symptom + i.cause + i.request]
    templates += [text for texts in (*book.frame.values(), *book.slots.values()) for text in texts]
    for template in templates:
        for _ in range(3):
            assert not set(voice.mutter(template)) & set("[]{}|"), template


def test_every_issue_can_be_quoted_and_every_clash_leaves_a_queue_to_mention() -> None:
    for queue in phrase_book().queues.values():
        assert set(queue.near) <= set(phrase_book().queues) - {queue.name}
        for issue in queue.issues:
            assert any(not symptom.startswith("^") for symptom in issue.symptom)
            # A second concern takes one more of the near queues away.
            assert len(set(queue.near) - set(issue.clash)) >= 2


def test_one_ticket_speaks_of_one_order_and_one_product() -> None:
    voice = Voice(phrase_book(), Random(4))
    assert len({voice.mutter("{order} / {device} / {amount}") for _ in range(20)}) == 1


def test_mail_addresses_are_reserved_ones(tickets: list[Ticket]) -> None:
    hosts = {host.casefold() for t in tickets for host in re.findall(r"@([\w.-]+\w)", t.text)}
    assert hosts == {"example.com"}


def test_a_vague_text_fits_at_least_three_queues_and_says_no_more_than_that() -> None:
    book = phrase_book()
    for entry in book.vague:
        assert len(entry.queues) >= 3
        assert set(entry.queues) <= set(book.queues)
    texts = [tell(Case(("login",), True, "login"), Random(seed), book) for seed in range(200)]
    assert not any(re.search("password|sign in|log in|locked|2fa", text.casefold()) for text in texts)


def test_counting_words_helps_but_does_not_solve_the_task(tickets: list[Ticket]) -> None:
    pytest.importorskip("sklearn")
    threads = pytest.importorskip("threadpoolctl")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    splits = split(tickets)
    train, held_out = splits["train"], splits["validation"] + splits["test"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    # Threads that spin for a share of a small matrix take fifty times as long on a busy machine.
    with threads.threadpool_limits(1):
        model.fit([t.text for t in train], [t.label for t in train])
    accuracy = model.score([t.text for t in held_out], [t.label for t in held_out])
    assert 0.76 <= accuracy <= 0.86
