"""Cleaning: the defaults harm nothing, each step does what its name says, and twice is the same as once."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.modality.cleaning import Cleaning

NOTHING = Cleaning(control=False, unicode="none", whitespace=False)
# What makes steps meet: composing marks, invisible and joining characters, compatibility forms, odd white space.
TRICKY = "aeJ \u0301\u030c\u200b\u200d\u00ad.,´ﬁ\t\x00\x85\u2028"
texts = st.text() | st.text(st.sampled_from(TRICKY))
steps = st.builds(
    Cleaning,
    html=st.just(False),  # one round of unescaping may leave what the next would unescape: &amp;lt;
    control=st.booleans(),
    unicode=st.sampled_from(("none", "NFC", "NFKC")),
    lowercase=st.just(False),  # may leave what the next round composes: J + caron has no composed capital
    punctuation=st.booleans(),
    whitespace=st.booleans(),
)


@settings(deadline=None)
@given(texts, steps)
def test_cleaning_twice_is_cleaning_once(text: str, cleaning: Cleaning) -> None:
    assert cleaning(cleaning(text)) == cleaning(text)


@settings(deadline=None)
@given(texts)
def test_no_step_changes_nothing(text: str) -> None:
    assert NOTHING(text) == text


@settings(deadline=None)
@given(texts)
def test_default_result_is_composed_and_without_control_characters_or_stray_spaces(text: str) -> None:
    cleaned = Cleaning()(text)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not [c for c in cleaned if unicodedata.category(c) == "Cc"]
    assert cleaned == " ".join(cleaned.split())


@pytest.mark.parametrize(
    "text",
    [
        "Was that necessary?! I paid 9.99 € -- TWICE...",
        "<b>not touched</b> &amp; nor this",
        "Größe, naïve, 東京, русский, עברית",
        "👩‍👩‍👧‍👦 👍🏽 ❤️ family",
        "می‌خواهم",
        "क्‍ष",
    ],
    ids=["plain", "html", "scripts", "emoji", "persian non-joiner", "hindi joiner"],
)
def test_defaults_keep_text_as_people_write_it(text: str) -> None:
    assert Cleaning()(text) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\x00b\x07c", "abc"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("  two\t lines\r\n here ", "two lines here"),
        ("cafe\u0301", "café"),
        ("e\u200b\u0301", "é"),
        (" \t\n", ""),
    ],
)
def test_defaults_remove_what_nobody_sees(text: str, cleaned: str) -> None:
    assert Cleaning()(text) == cleaned


@pytest.mark.parametrize(
    ("cleaning", "text", "cleaned"),
    [
        (Cleaning(html=True), "<p class='x'>Fish &amp; chips<br/>now</p><!-- no -->", "Fish & chips now"),
        (Cleaning(html=True), "a < b and c > d <3", "a < b and c > d <3"),
        (Cleaning(html=True), "&lt;b&gt; is bold", "<b> is bold"),
        (Cleaning(unicode="NFKC"), "ﬁne ① Ｗｉｄｅ", "fine 1 Wide"),
        (Cleaning(unicode="none"), "cafe\u0301", "cafe\u0301"),
        (Cleaning(lowercase=True), "ÄRGER Now", "ärger now"),
        (Cleaning(punctuation=True), "well... (no!) 東京。", "well no 東京"),
        (Cleaning(punctuation=True), "5 € + 3 $", "5 € + 3 $"),
        (Cleaning(whitespace=False), " a  b ", " a  b "),
        (Cleaning(control=False, whitespace=False), "a\u200bb", "a\u200bb"),
    ],
)
def test_each_step_does_what_it_is_called(cleaning: Cleaning, text: str, cleaned: str) -> None:
    assert cleaning(text) == cleaned


def test_many_unclosed_comments_are_cleaned_in_linear_time() -> None:
    """Quadratic, this would run for hours and hold up every other request."""
    assert Cleaning(html=True)("kept " + "<!--" * 200_000) == "kept"
