"""The fuzz target over its corpus and over mutations of it, without atheris: that it runs and finds nothing."""

from __future__ import annotations

import random

import pytest

from serving import codec
from tests.fuzz.binary_decoder import DOORS, corpus, target


@pytest.mark.parametrize("number", range(len(corpus())))
def test_every_seed_is_a_request_or_a_tensor_that_does_not_fit(number: int) -> None:
    seed = corpus()[number]
    # The raw tensors of the corpus have 16 bytes for two elements: right for those of eight.
    assert target(seed) or seed[0] == 3


def test_every_door_lets_a_seed_in() -> None:
    assert {seed[0] for seed in corpus() if target(seed)} == set(range(len(DOORS)))


def test_mutated_requests_are_refused_or_come_back_as_they_went() -> None:
    generator, seeds = random.Random(0), corpus()
    accepted = 0
    for _ in range(3000):
        content = bytearray(generator.choice(seeds))
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(1, len(content))
            match generator.randrange(3):
                case 0:
                    content[place] = generator.randrange(256)
                case 1:
                    del content[place:]
                case 2:
                    content[place:place] = generator.randbytes(generator.randint(1, 4))
            if len(content) < 2:
                break
        accepted += target(bytes(content))
    assert accepted > 100


def test_change_on_the_way_would_be_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([b"\0" * 8, b"\1" * 8])
    monkeypatch.setattr(codec, "to_raw", lambda tensor: next(answers))
    with pytest.raises(AssertionError):
        target(bytes([3, sorted(codec.NUMPY_TYPES).index("INT64"), 1, 1]) + bytes(8))
