"""Goals are ratios inside one run, told as met, missed by how much, or not measured."""

from __future__ import annotations

import pytest

from loadtest.bench import ceiling
from loadtest.bench.figures import About, Figures, Results
from loadtest.bench.goals import Goal, goals
from loadtest.bench.tables import closed, goal_table, open_loops, systems

PEERS = ["mosec", "Ray Serve"]
ALONE, LIKE = ceiling.strategies(2)[0].row, ceiling.strategies(2)[2].row


def results() -> Results:
    found = Results()
    for trace in ("short", "mixed"):
        found.add(ALONE, trace, ceiling.LOAD, 1, Figures(200.0))
        found.add(LIKE, trace, ceiling.LOAD, 1, Figures(250.0))
        found.add(ceiling.bare(1), trace, "c = 1", 1, Figures(200, 5.0, 9.0))
        found.add("gateway, HTTP JSON", trace, "c = 1", 1, Figures(180, 5.4, 10.0))
        found.add("gateway, HTTP JSON", trace, "c = 64", 1, Figures(190.0, 300.0, 400.0))
        found.add("plain FastAPI", trace, "c = 64", 1, Figures(190.0, 300.0, 800.0))
        found.add("mosec", trace, "c = 64", 1, Figures(38.0, 1000.0, 4000.0))
        found.add("Ray Serve", trace, "c = 64", 1, Figures(20.0, 1500.0, 1600.0))
    found.add("gateway, HTTP JSON", "mixed", "0.8 of capacity", 1, Figures(150.0, 10.0, 35.0))
    found.systems["gateway"] = About(ready=0.8, memory=150_000_000)
    found.systems["mosec"] = About(absent="cannot be installed | no network")
    return found


def found(*words: str, batch_invariant: bool = False) -> Goal:
    (goal,) = (one for one in goals(results(), PEERS, batch_invariant) if all(word in one.what for word in words))
    return goal


def test_throughput_is_told_of_the_best_strategy_and_of_the_best_that_runs_rows_alone() -> None:
    alone = found("HTTP JSON, mixed", "rows alone")
    assert alone.measured == pytest.approx(0.95)
    assert alone.met
    overall = next(one for one in goals(results(), PEERS, False) if one.what.endswith("mixed, c = 64: throughput of "
                   "the ceiling") and "JSON" in one.what)  # fmt: skip
    assert overall.measured == pytest.approx(0.76)
    assert overall.verdict == "missed by 16%"
    assert overall.basis == LIKE


def test_a_batch_invariant_model_has_one_ceiling() -> None:
    assert not [one for one in goals(results(), PEERS, True) if "rows alone" in one.what]


def test_the_best_peer_is_the_fastest_for_throughput_and_the_lowest_for_latency() -> None:
    throughput = found("best batching peer, mixed", "throughput")
    assert (throughput.basis, throughput.measured, throughput.met) == ("mosec", 5.0, True)
    p99 = found("best batching peer, mixed", "p99")
    assert (p99.basis, p99.measured, p99.met) == ("Ray Serve", 0.25, False)


def test_against_plain_both_latencies_count() -> None:
    assert found("plain FastAPI, short", "p50").verdict == "missed by 25%"
    assert found("plain FastAPI, short", "p99").met


def test_what_is_added_at_one_caller_is_the_difference_of_medians() -> None:
    added = found("HTTP JSON, short, c = 1")
    assert added.measured == pytest.approx(0.4)
    assert added.met


def test_start_memory_and_tail_are_judged() -> None:
    assert found("start to the first answer").met
    assert found("memory under load").measured == 150
    assert found("HTTP JSON", "0.8 of capacity").measured == 3.5


def test_what_was_not_part_of_the_run_is_not_judged() -> None:
    goal = found("gateway, gRPC, mixed, c = 1")
    assert (goal.met, goal.verdict) == (None, "not measured")
    assert found("10 minutes").verdict == "not measured"


def test_tables_put_both_ceilings_on_top_and_ratios_beside() -> None:
    (table,) = closed(results(), ["mixed"], [64])
    assert [row[0].split(" (")[0] for row in table.rows[:3]] == ["ceiling", "ceiling, rows alone", "gateway, HTTP JSON"]
    assert table.rows[2][1:3] == ("190", "0.76")
    assert "| gateway, HTTP JSON | 190 | 0.76 | 190..190 | 300 | 400 | 0 |" in table.markdown()


def test_open_loops_tell_the_tail() -> None:
    (table,) = open_loops(results())
    assert table.rows == [("gateway, HTTP JSON", "0.8 of capacity", "150", "10.0", "35.0", "3.5", "0")]


def test_an_absent_system_is_told_with_its_reason_and_markdown_stays_a_table() -> None:
    assert "| mosec | - | - | - | not measured: cannot be installed \\| no network |" in systems(results()).markdown()


def test_the_goal_table_has_a_row_for_every_goal() -> None:
    every = goals(results(), PEERS, False)
    assert len(goal_table(every).rows) == len(every)
