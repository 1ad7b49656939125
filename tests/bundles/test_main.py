"""The command: what it prints and the code it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bundles import archive
from bundles.__main__ import NO, NOT_DONE, main
from bundles.command_line import CODES
from tests.bundles.gates import failed_gate, passed_gate
from tests.serving.bundles import write_bundle

COMMANDS = ["verify", "show", "diff", "pack", "push", "pull"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_with_examples_and_names_its_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert told.count(f"downstream bundle {command} ") >= 3
    assert f"exit codes: {CODES[command]}" in told
    assert list(CODES) == COMMANDS


@pytest.mark.parametrize("words", [[], ["unpack"], ["verify"], ["pack"], ["show", "a", "--nonsense"]])
def test_bad_usage_is_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == NOT_DONE == 2


def test_verify_says_a_line_a_check(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "verify", version.parent.parent)
    assert code == 0
    first, *checks, last = out.splitlines()
    assert (first, last) == ("intent/1", "1 version, all good")
    assert [line.split()[:2] for line in checks] == [
        ["ok", "digests"], ["ok", "gates"], ["ok", "place"], ["ok", "configuration"], ["ok", "golden"],
    ]  # fmt: skip


def test_verify_looks_at_everything_and_says_what_is_wrong(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(repository, version=1)
    write_bundle(repository, version=2, damaged="model.json")
    write_bundle(repository, "other", wrong_golden=True)
    (tmp_path / "half.tar.gz").write_bytes(b"\x1f\x8b")
    code, out, _ = run(capsys, "verify", tmp_path / "half.tar.gz", repository)
    assert code == NO == 1
    assert "WRONG archive" in out
    assert "WRONG digests          model.json was changed after it was written" in out
    assert "WRONG golden rows      2 of 2 golden rows are not reproduced" in out
    assert out.splitlines()[-1] == "4 versions, 3 of them wrong"
    code, out, _ = run(capsys, "verify", tmp_path / "half.tar.gz", repository, "--json")
    told = json.loads(out)
    assert (code, told["ok"]) == (NO, False)
    assert [(v["version"], v["ok"]) for v in told["versions"]] == [
        (str(tmp_path / "half.tar.gz"), False), ("intent/1", True), ("intent/2", False), ("other/1", False),
    ]  # fmt: skip
    assert told["versions"][2]["checks"] == [
        {"name": "digests", "passed": False, "message": "model.json was changed after it was written"}
    ]


def test_a_version_in_quarantine_can_be_looked_at_and_goes_nowhere(
    repository: Path, memory: MemoryFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    version = write_bundle(repository, stated={"gates": [passed_gate("parity"), failed_gate("speed")]})
    code, out, _ = run(capsys, "verify", version)
    assert code == 1
    assert [line.split()[:3] for line in out.splitlines() if "WRONG" in line] == [["WRONG", "gate", "speed"]]
    code, out, _ = run(capsys, "show", version)
    assert code == 0
    assert out.splitlines()[0] == "intent/1: text-classification, fp32, stub; in quarantine"
    assert run(capsys, "diff", version, version)[0] == 0
    for words in (["pack", version], ["push", version, "memory://models"]):
        code, _, err = run(capsys, *words)
        assert code == 1
        assert "is in quarantine: gate speed did not pass: too slow; mend the model, or export it with --accept" in err
    assert not memory.store


@pytest.mark.parametrize("words", [["verify", "repository"], ["pull", "memory://models/intent-1.tar.gz", "other"]])
def test_a_key_that_is_none_is_2_before_any_work(
    version: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words, "--require-signature", "absent.pem")
    assert (code, out) == (2, "")
    assert "--require-signature: no public key" in err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("command", ["verify", "show", "pack"])
def test_a_path_that_is_not_there_is_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, command, "none")
    assert (code, out) == (2, "")
    assert err.startswith(f"downstream bundle {command}: none: no such file or folder")


def test_show_for_people_and_machines(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", version.parent)
    assert code == 0
    assert out.startswith("intent/1: text-classification")
    assert json.loads(run(capsys, "show", version, "--json")[1])["name"] == "intent"
    (version / "model.json").unlink()
    code, _, err = run(capsys, "show", version)
    assert code == 1
    assert "model.json is missing" in err


def test_diff_ends_as_diff_does(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(repository, version=1)
    write_bundle(repository, version=2)
    write_bundle(repository, version=3, labels=("refund", "cancel", "thanks"))
    model = repository / "intent"
    assert run(capsys, "diff", model / "1", model / "2")[:2] == (0, "The two are equal.\n")
    code, out, _ = run(capsys, "diff", model, 1, 3)
    assert code == 1
    assert out.startswith("Labels moved: cancel from 0 to 1, refund from 1 to 0")
    assert run(capsys, "diff", model / "1", model)[:2] == (code, out)
    told = json.loads(run(capsys, "diff", model, 1, 3, "--json")[1])
    assert told["equal"] is False
    assert told["differences"][0] == {"part": "labels", "name": "cancel", "before": 0, "after": 1}
    assert run(capsys, "diff", model, 1, 9)[0] == 2
    assert "must be two, or a model and two versions" in run(capsys, "diff", model)[2]
    (model / "2" / "model.json").unlink()
    assert run(capsys, "diff", model, 1, 2)[0] == 2


def test_pack_names_the_file_and_its_digest(version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "pack", version.parent)
    assert code == 0
    assert archive.digest(tmp_path / "intent-1.tar.gz") in out
    # An archive is a path like another.
    run(capsys, "pack", "intent-1.tar.gz", "-o", "again.tar.gz")
    assert archive.digest(tmp_path / "again.tar.gz") in out
    assert run(capsys, "pack", version, "-o", "b.zip")[0] == 2
    assert run(capsys, "verify", "again.tar.gz")[0] == 0


def test_push_and_pull(
    version: Path, tmp_path: Path, memory: MemoryFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "memory://models/intent-1.tar.gz"
    assert run(capsys, "push", version, "memory://models")[:2] == (0, f"pushed:     {url}\n")
    assert run(capsys, "push", version, "memory://models")[:2] == (
        0, f"there:      {url}, the same already; nothing to do\n",
    )  # fmt: skip
    assert run(capsys, "pull", url, "other")[:2] == (0, "pulled:     other/intent/1\n")
    assert run(capsys, "verify", "other")[0] == 0
    write_bundle(tmp_path / "third", labels=("a", "b", "c"))
    assert run(capsys, "pull", url, "third")[0] == 1
    assert run(capsys, "push", "third", "memory://models")[0] == 1
    code, _, err = run(capsys, "pull", "memory://models/none.tar.gz", "other")
    assert (code, "has no .sha256 beside it" in err) == (2, True)
