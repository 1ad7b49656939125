"""Options, pins of peers, the course of memory, the machine by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench import install, machine, memory, options


def test_quick_is_one_short_round_without_open_loops() -> None:
    quick = options.parse(["--quick", "--systems", "gateway", "plain"])
    assert (quick.rounds, quick.seconds, quick.concurrency, quick.open_loop) == (1, 1.0, (1, 64), False)
    assert quick.systems == ("gateway", "plain")


def test_an_unknown_system_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse(["--systems", "nginx"])
    assert "litserve" in capsys.readouterr().err


def test_too_short_a_measurement_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse(["--seconds", "0.1"])
    assert "give 0.5 or more" in capsys.readouterr().err


def test_a_peer_gets_the_pins_of_its_own_section() -> None:
    pins = "# both\n\n# [mosec]\nmosec==0.9.8\nnumpy==2\n\n# [ray]\nray==2.60.0\n"
    assert install.pins_of("mosec", pins) == ["mosec==0.9.8", "numpy==2"]


@pytest.mark.parametrize("name", install.WHAT)
def test_every_peer_is_pinned_together_with_what_it_is_compared_by(name: str) -> None:
    pins = install.pins_of(name, install.PINS.read_text("utf-8"))
    ours = (install.ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert any(pin.startswith(f"{name}==") for pin in pins)
    for package in ("onnxruntime", "tokenizers"):
        (pin,) = (pin for pin in pins if pin.startswith(f"{package}=="))
        assert pin in ours, "another version of the same graph's runtime would be measured"


def test_memory_that_grows_is_told_by_its_slope() -> None:
    minute = [second / 60 for second in range(601)]
    course = memory.course(range(601), [100e6 + 1e6 * at for at in minute], rate=50)
    assert course.slope == pytest.approx(1e6)
    assert course.growth == pytest.approx(9 / 101 * 100)
    assert "slope +1.00 MB a minute" in str(course)


def test_memory_that_rises_once_and_stays_is_flat() -> None:
    course = memory.course(range(601), [100e6 if second < 30 else 150e6 for second in range(601)])
    assert course.growth == pytest.approx(0, abs=0.1)


def test_the_last_course_is_a_goal(tmp_path: Path) -> None:
    assert memory.goal(tmp_path / "memory.json") is None
    course = '{"minutes": %s, "start": 1e8, "settled": 1.2e8, "end": 1.2e8, "slope": 0, "rate": 50}'
    (tmp_path / "memory.json").write_text(course % 0.5)
    assert memory.goal(tmp_path / "memory.json") is None
    (tmp_path / "memory.json").write_text(course % 10)
    goal = memory.goal(tmp_path / "memory.json")
    assert goal is not None
    assert goal.met
    assert "10 minutes" in goal.what


def test_the_machine_is_named_with_what_makes_int8_fast(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: Some CPU\nflags\t: fpu avx2 avx512_vnni\n\nmodel name\t: Other\n")
    facts = machine.facts(tmp_path / "cpuinfo")
    assert facts["processor"] == "Some CPU"
    assert facts["instructions"] == "avx2, avx512_vnni"
