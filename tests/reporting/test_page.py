"""What a reader of a report relies on: every text arrives as written, and the file is complete by itself."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporting import charts
from reporting.page import Page, Toned, code, facts, figure, folded, shown, table, text, verdict

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1)


class Document(HTMLParser):
    """The elements and the text of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def page(words: str) -> Page:
    """A page that holds ``words`` in every place that takes text."""
    built = Page(words, words)
    blocks = [facts({words: words}), table([words], [[words]]), figure(charts.lines({}, "x", "y"), words)]
    judged = [verdict(True, words), verdict(False, words, name=words, accepted=words, note=words)]
    blocks += [*judged, facts({words: (words, words)}), table([words], [[Toned(words, "good")]])]
    built.section(words, *blocks, text(words), code(words), folded(words, text(words)), note=words)
    return built


PLAIN = Document(page("plain").html())


@settings(max_examples=25, deadline=None)
@given(TEXTS)
def test_text_is_shown_as_written_and_is_never_markup(words: str) -> None:
    document = Document(page(words).html())
    assert document.tags == PLAIN.tags
    # A long key figure is set smaller.
    assert [pair for pair in document.attributes if pair != ("class", "long")] == PLAIN.attributes
    assert document.text.count(words) >= 22


def test_script_in_a_label_stays_text_inside_a_chart() -> None:
    drawn = charts.bars(["<script>alert(1)</script>", 'a" onload="x'], {"</svg><b>": [1, 2], "$x_$": [1, 2]}, "y")
    built = Page("t")
    built.section("s", figure(drawn))
    document = Document(built.html())
    assert not {"script", "b"} & set(document.tags)
    assert "onload" not in dict(document.attributes)
    assert "<script>alert(1)</script>" in document.text
    assert "$x_$" in document.text


def test_page_refers_to_nothing_outside_itself() -> None:
    built = page("words")
    built.section("s", figure(charts.matrix(["a", "b"], [[1, 2], [3, 4]])))
    for name, value in Document(built.html()).attributes:
        if name in {"href", "src", "xlink:href"}:
            assert value is not None
            assert value.startswith(("#", "data:"))
    assert "url(http" not in built.html()
    assert "@import" not in built.html()


def test_write_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    page("Grüße, 世界 🙂 \ud83d").write(target)
    written = target.read_text(encoding="utf-8")
    assert written.startswith("<!DOCTYPE html>")
    assert written.rstrip().endswith("</html>")
    assert "Grüße, 世界 🙂 &#55357;" in written
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_verdicts_are_told_in_words() -> None:
    built = Page("t")
    accepted = verdict(False, "drifts", name="calibration", accepted="nobody reads it", note="asks: does it?")
    built.section("s", verdict(True, "fast enough"), verdict(False, "too slow"), accepted)
    told = " ".join(Document(built.html()).text.split())
    assert "Passed fast enough" in told
    assert "Failed too slow" in told
    assert "Accepted calibration drifts accepted because: nobody reads it asks: does it?" in told


def test_a_figure_may_have_small_print_and_a_cell_a_tone() -> None:
    built = Page("t")
    built.section("s", facts({"accuracy": (0.91234, "0.9 to 0.92")}), table(["a"], [[Toned(0.5, "bad")]], numeric=[0]))
    document = Document(built.html())
    assert "0.91230.9 to 0.92" in document.text
    assert ("class", "number bad") in document.attributes


def test_what_is_folded_is_in_the_page_and_closed() -> None:
    built = Page("t")
    built.section("s", folded("the recipe", code("epochs: 3"), folded("inside", text("deep"))))
    document = Document(built.html())
    assert document.tags.count("details") == 2
    assert ("open", None) not in document.attributes
    assert {"the recipe", "epochs: 3", "deep"} <= {line.strip() for line in document.text.splitlines()}


def test_pages_of_many_sections_have_links_to_each() -> None:
    built = Page("t")
    for name in "abcd":
        built.section(name)
    attributes = Document(built.html()).attributes
    assert [value for name, value in attributes if name == "href"] == ["#s1", "#s2", "#s3", "#s4"]
    assert {("id", f"s{number}") for number in range(1, 5)} <= set(attributes)


def test_table_refuses_a_row_of_another_width() -> None:
    with pytest.raises(ValueError, match="row 2: has 1 values for 2 headers"):
        table(["a", "b"], [[1, 2], [3]])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.93125, "0.9313"),
        (12345.6, "12,346"),
        (np.float32(0.5), "0.5"),
        (np.int64(10003), "10,003"),
        (2e-05, "2e-05"),
        (10003, "10,003"),
        (float("nan"), "—"),
        (float("inf"), "inf"),
        (None, "—"),
        (True, "yes"),
        ("as it is 1234.5678", "as it is 1234.5678"),
    ],
)
def test_numbers_are_shown_as_a_reader_wants_them(value: object, expected: str) -> None:
    assert shown(value) == expected
