"""The tables of the bench: ratios round by round, goals, padding, stages."""

from __future__ import annotations

from typing import Any

import pytest

from finetune.bench.figures import (
    EXAMPLE,
    HEADINGS,
    LOOP,
    PRODUCT,
    STAGE_HEADINGS,
    Run,
    markdown_table,
    ratios,
    speed_rows,
    stage_rows,
    text_table,
)


def run(rate: float, **changes: Any) -> Run:
    """Ten steps in ten seconds; four fifths of the tokens are real."""
    values: dict[str, Any] = {
        "steps": 10,
        "seconds": 10.0,
        "tokens": int(10 * rate),
        "padded_tokens": int(12.5 * rate),
        "stages": {"reading": 1.0, "encoding": 2.0, "training": 12.0},
        "wall": 20.0,
        "peak": 500.0,
    }
    return Run(**{**values, **changes})


def test_ratios_are_taken_inside_a_round() -> None:
    """The second round found a busy machine: both were half as fast, and the ratio says so."""
    assert ratios({PRODUCT: [run(400), run(200)], EXAMPLE: [run(100), run(50)]}, EXAMPLE) == [4.0, 4.0]


@pytest.mark.parametrize(("rate", "verdict"), [(100, "met"), (500, "missed")])
def test_a_goal_is_met_or_missed_by_the_median(rate: float, verdict: str) -> None:
    rows = speed_rows({PRODUCT: [run(400)] * 3, EXAMPLE: [run(rate), run(rate), run(1000)], LOOP: [run(400)] * 3})
    found = dict(zip(HEADINGS, rows[1], strict=True))
    assert found["goal"] == f">= 2x, {verdict}"
    assert found["downstream is faster by"] == f"{400 / rate:.2f}x (0.40 .. {400 / rate:.2f})"
    assert dict(zip(HEADINGS, rows[2], strict=True))["goal"] == ">= 0.95x, met"


def test_a_row_tells_rate_spread_step_padding_and_memory() -> None:
    (row,) = speed_rows({PRODUCT: [run(1000), run(1200, peak=700.0), run(4000)]})
    assert row == [PRODUCT, "1,200", "1,000 .. 4,000", "1000", "20%", "500", "-", "-"]


def test_what_no_stage_tells_is_start_and_end_and_a_stage_one_does_not_have_is_a_dash() -> None:
    (row,) = stage_rows({PRODUCT: [run(1)]})
    found = dict(zip(STAGE_HEADINGS, row, strict=True))
    assert found["start and end"] == "5.0"
    assert (found["reading"], found["training"], found["saving"], found["whole"]) == ("1.0", "12.0", "-", "20.0")


def test_tables_line_up_on_a_terminal_and_in_markdown() -> None:
    rows = [["a long name", "1"], ["b", "1,000"]]
    assert text_table(("", "n"), rows) == "                 n\na long name      1\nb            1,000"
    assert markdown_table(("", "n"), rows) == "|  | n |\n| --- | --: |\n| a long name | 1 |\n| b | 1,000 |"
