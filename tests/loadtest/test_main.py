"""The command, from its arguments to its exit code and its files, against servers in this process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from loadtest.__main__ import main
from tests.loadtest.fake_server import Fake, http, over_grpc

WIRES = pytest.mark.parametrize("wire", [http, over_grpc])
Wire = Callable[[Fake], AbstractContextManager[str]]
SHORT = ["--requests", "20", "--warmup", "0", "--concurrency", "2"]


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(folder: str = "loadtest-report") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())
    assert Path(folder, "report.html").read_text().startswith("<!DOCTYPE html>")
    return found


@WIRES
def test_good_run_exits_0_and_tells_where_the_report_is(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    with wire(Fake()) as url:
        assert main([url, *SHORT]) == 0
    found = report()
    assert (found["requests"], found["succeeded"], found["failed"], found["error_rate"]) == (20, 20, 0, 0)
    assert found["latency_counts_from"] == "sending"
    assert found["settings"]["model"] == "intent"
    assert set(found["latency"]) == {"mean", "p50", "p90", "p95", "p99", "p99.9", "max"}
    assert found["command"] == f"downstream loadtest {url} --requests 20 --warmup 0 --concurrency 2"
    assert "report: loadtest-report/report.html" in capsys.readouterr().out


@WIRES
def test_open_loop_reports_latency_service_time_and_lateness(wire: Wire) -> None:
    with wire(Fake()) as url:
        assert main([url, "--rate", "200", "--requests", "20", "--warmup", "0", "--output", "out"]) == 0
    found = report("out")
    assert found["latency_counts_from"] == "intended time"
    assert found["latency"]["p99"] >= found["service"]["p99"] > 0
    assert found["lateness"]["p50"] >= 0
    assert "service time" in Path("out/report.html").read_text()


@WIRES
def test_more_errors_than_allowed_exit_1_and_are_told_by_kind(wire: Wire) -> None:
    with wire(Fake(answer=lambda number: (503, "queue is <full>") if number % 5 == 4 else None)) as url:
        assert main([url, *SHORT]) == 1
        assert main([url, *SHORT, "--max-error-rate", "0.25"]) == 0
    found = report()
    assert found["failed"] == 4
    (kind,) = found["errors"]
    assert kind["kind"] in {"HTTP 503", "gRPC UNAVAILABLE"}
    assert (kind["count"], kind["message"]) == (4, "queue is <full>")
    assert "queue is &lt;full&gt;" in Path("loadtest-report/report.html").read_text()


@WIRES
def test_no_answer_in_time_is_a_timeout_and_the_server_knows_the_deadline(wire: Wire) -> None:
    fake = Fake(answer=lambda number: (0, "") if number == 5 else None)
    with wire(fake) as url:
        assert main([url, *SHORT, "--timeout", "2"]) == 1
    assert [(one["kind"], one["count"]) for one in report()["errors"]] == [("timeout", 1)]
    assert all(1 < deadline < 2.1 for deadline in fake.deadlines)


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (["--max-p50", "0.0001"], 1),
        (["--max-p99", "0.0001"], 1),
        (["--min-throughput", "1e9"], 1),
        (["--max-p50", "60000", "--max-p99", "60000", "--min-throughput", "0.001"], 0),
    ],
)
def test_limits_decide_the_exit_code_and_stand_in_the_report(limit: list[str], code: int) -> None:
    with http(Fake()) as url:
        assert main([url, *SHORT, *limit]) == code
    verdicts = report()["verdicts"]
    assert len(verdicts) == len(limit) / 2 + 1
    assert all(one["passed"] for one in verdicts) == (code == 0)
    assert ("Failed</strong>" in Path("loadtest-report/report.html").read_text()) == (code == 1)


@WIRES
def test_ctrl_c_stops_and_writes_what_was_measured(wire: Wire) -> None:
    def answer(number: int) -> None:
        if number == 30:
            os.kill(os.getpid(), signal.SIGINT)

    with wire(Fake(answer=answer)) as url:
        assert main([url, "--duration", "600", "--warmup", "0", "--concurrency", "2"]) == 130
    found = report()
    assert found["interrupted"] is True
    assert found["succeeded"] >= 25
    assert found["seconds"] < 600
    assert "stopped before its end" in Path("loadtest-report/report.html").read_text()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_the_load_ends_quietly() -> None:
    with http(Fake(answer=lambda _number: os.kill(os.getpid(), signal.SIGINT))) as url:
        assert main([url]) == 130


def test_many_requests_under_way_are_given_the_files_they_need() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with http(Fake()) as url:
            main([url, *SHORT])
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_unreachable_server_exits_2_and_says_what_to_check(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    with http(Fake()) as url:
        gone = f"{scheme}://{url.partition('://')[2]}"
    assert main([gone]) == 2
    said = capsys.readouterr().err
    assert gone in said
    assert "cannot be reached" in said
    assert "check that the server runs" in said


def test_wrong_wire_exits_2_and_says_which_to_use(capsys: pytest.CaptureFixture[str]) -> None:
    with http(Fake()) as url:
        assert main([url.replace("http", "grpc")]) == 2
    assert "else use http://" in capsys.readouterr().err
    with over_grpc(Fake()) as url:
        assert main([url.replace("grpc", "http")]) == 2
    assert "else use grpc://" in capsys.readouterr().err


@WIRES
@pytest.mark.parametrize("index", [True, False])
def test_unknown_model_exits_2_and_names_those_there_are(
    wire: Wire, index: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with wire(Fake(index=index)) as url:
        assert main([url, "--model", "intend"]) == 2
    said = capsys.readouterr().err
    assert "intend" in said
    assert ("the server has intent" if index else "unknown model") in said


@WIRES
@pytest.mark.parametrize(
    ("models", "index", "said"),
    [
        ({"b": ("READY", ""), "a": ("READY", "")}, True, "choose one with --model: a, b"),
        ({"a": ("UNAVAILABLE", "golden rows differ")}, True, "a: UNAVAILABLE: golden rows differ"),
        ({"a": ("READY", "")}, False, "say which to ask with --model"),
    ],
)
def test_model_that_cannot_be_guessed_exits_2(
    wire: Wire, models: dict[str, tuple[str, str]], index: bool, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with wire(Fake(models=models, index=index)) as url:
        assert main([url]) == 2
    assert said in capsys.readouterr().err


@WIRES
def test_model_that_is_not_ready_is_passed_over_and_told_when_asked_for(
    wire: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    with wire(Fake(models={"old": ("UNAVAILABLE", "quarantined"), "new": ("READY", "")})) as url:
        assert main([url, *SHORT]) == 0
        assert main([url, *SHORT, "--model", "old"]) == 2
    assert report()["settings"]["model"] == "new"
    assert "quarantined; ready are new" in capsys.readouterr().err


@WIRES
def test_refused_first_request_exits_2_with_the_words_of_the_server(
    wire: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake(answer=lambda _number: (400, "text: missing"))
    with wire(fake) as url:
        assert main([url, *SHORT]) == 2
    assert "text: missing" in capsys.readouterr().err
    assert len(fake.received) == 1


@WIRES
def test_rows_of_a_file_are_sent_in_requests_of_the_size_asked_for(wire: Wire) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps({"text": f"Grüße {n}", "label": "x"}) + "\n" for n in range(6)))
    fake = Fake()
    with wire(fake) as url:
        assert main([url, *SHORT, "--rows", "3", "--input", "rows.jsonl"]) == 0
    assert {name for request in fake.received for name in request} == {"text"}
    assert {(dtype, *shape) for request in fake.received for dtype, shape, _ in request.values()} == {("BYTES", 3)}
    assert {text for request in fake.received for text in request["text"][2]} == {f"Grüße {n}" for n in range(6)}
    assert report()["rows_per_second"] == pytest.approx(3 * report()["throughput"])


@WIRES
def test_numbers_are_sent_in_the_type_of_the_input(wire: Wire) -> None:
    Path("rows.jsonl").write_text('{"input_ids": [101, -7, 102]}\n')
    fake = Fake(inputs=[("input_ids", "INT64", [-1, -1])])
    with wire(fake) as url:
        assert main([url, *SHORT, "--rows", "2", "--input", "rows.jsonl"]) == 0
    assert fake.received[0] == {"input_ids": ("INT64", [2, 3], [101, -7, 102] * 2)}


def test_example_of_the_gateway_is_the_default_and_made_up_texts_come_next() -> None:
    fake = Fake(example={"text": "a", "text_pair": "b"})
    with http(fake) as url:
        assert main([url, *SHORT]) == 0
        assert all((one["text"][2], one["text_pair"][2]) == (["a"], ["b"]) for one in fake.received)
        fake.example = None
        fake.received.clear()
        assert main([url, *SHORT]) == 0
    lengths = {len(one["text"][2][0].split()) for one in fake.received}
    assert len(lengths) > 5
    assert all(5 <= length <= 120 for length in lengths)


def test_run_that_measured_nothing_is_no_success() -> None:
    with http(Fake()) as url:
        assert main([url, "--rate", "0.001", "--duration", "0.01", "--warmup", "0"]) == 1
    assert report()["latency"] is None


def test_output_that_cannot_be_made_exits_2_before_the_load(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("")
    assert main(["http://127.0.0.1:1", "--output", "taken/x"]) == 2
    assert "--output taken/x" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["localhost:8000"], "give http://host:port or grpc://host:port"),
        (["http://x", "--rate", "1", "--concurrency", "2"], "not allowed with"),
        (["http://x", "--duration", "1", "--requests", "2"], "not allowed with"),
        (["http://x", "--rate", "0"], "not a number above 0"),
        (["http://x", "--rate", "nan"], "not a number above 0"),
        (["http://x", "--max-error-rate", "1.5"], "not a fraction between 0 and 1"),
        (["http://x", "--rows", "0"], "not a whole number above 0"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_right(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(wrong)
    assert exit_code.value.code == 2
    assert said in capsys.readouterr().err


def test_help_teaches_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--help"])
    assert exit_code.value.code == 0
    said = capsys.readouterr().out
    assert "downstream loadtest http://localhost:8000 --rate 50 --max-p99 100" in said
    assert "exit codes" in said


def test_load_generator_needs_neither_torch_nor_the_stages_before_it() -> None:
    # In a process of its own, for the others have imported them.
    program = (
        "import sys, pkgutil, importlib, loadtest, reporting\n"
        "for package in (loadtest, reporting):\n"
        "    for module in pkgutil.iter_modules(package.__path__):\n"
        "        if not module.name.startswith('bench'):\n"
        "            importlib.import_module(f'{package.__name__}.{module.name}')\n"
        "unwanted = {'torch', 'transformers', 'datasets', 'finetune', 'export', 'onnxruntime', 'matplotlib.pyplot'}\n"
        "sys.exit(', '.join(sorted(unwanted & set(sys.modules))) or None)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
