"""Tokenizers trained on the spot: every kind trains, encodes what it was trained on, and pads with id 0."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from finetune.recipe import Vocabulary
from finetune.vocabulary import FIRST, PAD, SEPARATOR, SPECIAL, UNKNOWN, train
from tests.finetune import toy

KINDS = ["wordpiece", "bpe", "unigram", "word", "character"]
ENGLISH = [row["text"] for row in toy.rows(80)]
CHINESE = [
    "酒店的位置很好，离地铁站很近。",
    "房间不太干净，服务员的态度也不好！",
    "早餐还可以，价格有点贵。",
    "下次还会住这家酒店，推荐给朋友。",
]


def trained(kind: str, texts: list[str], size: int = 200, lowercase: bool = True) -> Tokenizer:
    return train(Vocabulary.model_validate({"kind": kind, "vocab_size": size, "lowercase": lowercase}), texts)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_special_tokens_come_first_and_the_padding_is_0(kind: str) -> None:
    tokenizer = trained(kind, ENGLISH)
    assert tokenizer.token_to_id(PAD) == 0
    assert sorted(tokenizer.token_to_id(token) for token in SPECIAL) == list(range(len(SPECIAL)))


def test_what_it_was_trained_on_has_no_unknown_token(kind: str) -> None:
    tokenizer = trained(kind, ENGLISH)
    for text in ENGLISH:
        tokens = tokenizer.encode(text).tokens
        assert UNKNOWN not in tokens
        assert tokens[0] == FIRST
        assert tokens[-1] == SEPARATOR
        assert len(tokens) > 2


def test_the_size_is_kept(kind: str) -> None:
    assert trained(kind, ENGLISH, size=60).get_vocab_size() <= 60


def test_different_texts_have_different_ids(kind: str) -> None:
    tokenizer = trained(kind, ENGLISH)
    assert len({tuple(tokenizer.encode(text).ids) for text in ENGLISH}) == len(set(ENGLISH))


def test_pairs_are_told_apart(kind: str) -> None:
    encoding = trained(kind, ENGLISH).encode("warm sun", "cold rain")
    assert encoding.tokens.count(SEPARATOR) == 2
    boundary = encoding.tokens.index(SEPARATOR)
    assert set(encoding.type_ids[: boundary + 1]) == {0}
    assert set(encoding.type_ids[boundary + 1 :]) == {1}


def test_lower_case_is_a_choice(kind: str) -> None:
    texts = [*ENGLISH, *(text.upper() for text in ENGLISH)]
    folded = trained(kind, texts, lowercase=True)
    kept = trained(kind, texts, lowercase=False)
    assert folded.encode("WARM SUN").ids == folded.encode("warm sun").ids
    assert kept.encode("WARM SUN").ids != kept.encode("warm sun").ids


def test_composed_and_decomposed_letters_are_the_same(kind: str) -> None:
    tokenizer = trained(kind, ["café olé", *ENGLISH])
    assert tokenizer.encode("cafe\u0301").ids == tokenizer.encode("caf\u00e9").ids


def test_it_reads_back_from_its_file(kind: str) -> None:
    tokenizer = trained(kind, ENGLISH)
    again = Tokenizer.from_str(tokenizer.to_str())
    assert all(again.encode(text).ids == tokenizer.encode(text).ids for text in ENGLISH)


def test_characters_know_every_chinese_text_made_of_signs_they_have_seen() -> None:
    tokenizer = trained("character", CHINESE)
    encoding = tokenizer.encode("朋友，这家酒店的服务不好。")
    assert UNKNOWN not in encoding.tokens
    assert encoding.tokens[1:-1] == list("朋友，这家酒店的服务不好。")


def test_a_sign_never_seen_is_unknown_and_not_dropped() -> None:
    assert trained("character", CHINESE).encode("鱼").tokens == [FIRST, UNKNOWN, SEPARATOR]


def test_wordpiece_cuts_ideographs_apart() -> None:
    tokens = trained("wordpiece", CHINESE).encode("酒店很好").tokens
    assert tokens == [FIRST, *"酒店很好", SEPARATOR]
