"""Signatures: what the owner of a key signed passes just as it was, and nothing else does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry

from export.signing import sign
from serving.__main__ import main
from serving.bundle import open_bundle
from serving.errors import BundleError, InvalidInput
from serving.manifest import MANIFEST, SIGNATURE
from serving.metrics import Metrics
from serving.overrides import Override
from serving.repository import Repository
from serving.settings import Settings
from serving.signature import library, verify
from tests.serving.bundles import reseal, write_bundle
from tests.serving.keys import Pair, pair


@pytest.fixture
def key(tmp_path: Path) -> Pair:
    return pair(tmp_path, "ours")


@pytest.fixture
def folder(tmp_path: Path, key: Pair) -> Path:
    """A version that is signed."""
    folder = write_bundle(tmp_path / "models")
    sign(folder, key.private)
    return folder


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_was_signed_passes_and_still_opens(curve: ec.EllipticCurve, tmp_path: Path) -> None:
    own = pair(tmp_path, "own", curve)
    folder = write_bundle(tmp_path / "models")
    before = {path.name for path in folder.parent.rglob("*")}
    assert sign(folder, own.private) == folder / SIGNATURE
    assert {path.name for path in folder.parent.rglob("*")} == {*before, SIGNATURE}
    verify(folder, own.public)
    open_bundle(folder)
    sign(folder, own.private)
    verify(folder, own.public)


def test_version_may_be_copied_and_renamed(folder: Path, key: Pair) -> None:
    shutil.copytree(folder, folder.parent.parent / "other" / "7")
    verify(folder.parent.parent / "other" / "7", key.public)


def flip(folder: Path) -> None:
    path = folder / "model.json"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def raise_tolerance(folder: Path) -> None:
    reseal(folder, tolerance={"logits": 9.0})


def remove(folder: Path) -> None:
    (folder / "golden.jsonl").unlink()


def add(folder: Path) -> None:
    (folder / ".gitignore").write_text("*")


def damage(folder: Path) -> None:
    (folder / SIGNATURE).write_text("{}")


def forge(folder: Path) -> None:
    """The signature is of the right key and of other content."""
    signature = json.loads((folder / SIGNATURE).read_text("utf-8"))
    payload = signature["dsseEnvelope"]["payload"]
    signature["dsseEnvelope"]["payload"] = payload[:40] + ("B" if payload[40] == "A" else "A") + payload[41:]
    (folder / SIGNATURE).write_text(json.dumps(signature))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip, r"Hash mismatch for 'model\.json'"),
        (raise_tolerance, f"Hash mismatch for '{MANIFEST}'"),
        (remove, r"Missing files in model '1': golden\.jsonl"),
        (add, r"Extra files found in model '1': \.gitignore"),
        (damage, "'verificationMaterial'"),
        (forge, "InvalidSignature"),
    ],
)
def test_version_that_was_changed_since_is_refused_with_the_file(
    change: Callable[[Path], None], said: str, folder: Path, key: Pair
) -> None:
    change(folder)
    with pytest.raises(BundleError, match=f"{SIGNATURE} does not hold with the key .*ours.pub.pem: {said}$"):
        verify(folder, key.public)


def test_signature_of_another_key_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"{SIGNATURE} does not hold with the key .*theirs.pub.pem: Key mismatch"):
        verify(folder, pair(tmp_path, "theirs").public)


def test_version_without_a_signature_is_refused_as_such(tmp_path: Path, key: Pair) -> None:
    with pytest.raises(BundleError, match="is not signed, and --require-signature asks for it"):
        verify(write_bundle(tmp_path / "models"), key.public)


@pytest.mark.parametrize("wrong", ["absent", "no key", "private", "curve"])
def test_file_that_holds_no_public_key_is_named_with_the_way_to_make_one(
    wrong: str, folder: Path, key: Pair, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.pem"
    if wrong == "no key":
        path.write_text("hello")
    elif wrong == "private":
        path = key.private
    elif wrong == "curve":
        path = pair(tmp_path, "curve", ec.SECP256K1()).public
    with pytest.raises(InvalidInput, match="--require-signature: no public key .*openssl genpkey -algorithm EC"):
        verify(folder, path)


def test_package_that_is_missing_is_named_with_its_extra(
    folder: Path, key: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(InvalidInput, match=r"install downstream\[sign\]"):
        verify(folder, key.public)


def test_package_is_imported_only_when_a_signature_is_asked_for() -> None:
    script = (
        "import sys, serving.signature, serving.repository, export.signing, export.bundle_writer\n"
        "print({'model_signing', 'sigstore', 'OpenSSL', 'cryptography'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
    assert library().__name__ == "model_signing"


def signing_repository(folder: Path, key: Path) -> Repository:
    return Repository(folder, Settings(runners=1, require_signature=str(key)), Metrics(CollectorRegistry()))


def test_server_that_asks_for_signatures_serves_nothing_else_and_the_old_version_goes_on(
    tmp_path: Path, folder: Path, key: Pair
) -> None:
    models = folder.parent.parent
    write_bundle(models, "unsigned")
    repository = signing_repository(models, key.public)
    repository.load_all()
    assert list(repository.engines()) == ["intent"]
    assert "is not signed" in {entry.name: entry.reason for entry in repository.index()}["unsigned"]
    second = write_bundle(models, version=2)
    for private, said in ((None, "version 2: .*is not signed"), (pair(tmp_path, "theirs").private, "Key mismatch")):
        if private:
            sign(second, private)
        with pytest.raises(BundleError, match=said):
            repository.load("intent")
        assert repository.versions("intent") == [1]
    sign(second, key.private)
    repository.load("intent")
    assert repository.versions("intent") == [2]
    repository.close()


def test_process_that_follows_asks_for_the_signature_too(folder: Path, key: Pair) -> None:
    models = folder.parent.parent
    leader, follower = (
        Repository(
            models, Settings(runners=1, workers=2, require_signature=str(key.public)), Metrics(CollectorRegistry())
        )
        for _ in range(2)
    )
    leader.load_all()
    (admission,) = leader.admitted.values()
    follower.open_admitted(admission).close()
    (folder / SIGNATURE).unlink()
    with pytest.raises(BundleError, match="is not signed"):
        follower.open_admitted(admission)
    leader.close()


def test_files_of_a_load_request_must_be_signed_too(tmp_path: Path, folder: Path, key: Pair) -> None:
    def uploaded() -> Override:
        files = {
            f"1/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        return Override('{"backend": "downstream", "max_batch_size": 4}', files)

    (tmp_path / "none").mkdir()
    repository = signing_repository(tmp_path / "none", key.public)
    repository.load("guest", uploaded())
    (folder / SIGNATURE).unlink()
    with pytest.raises(BundleError, match="is not signed"):
        repository.load("guest", uploaded())
    assert repository.versions("guest") == [1]
    repository.close()


def test_server_does_not_start_without_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--require-signature", str(tmp_path / "absent.pem")]) == 2
    said = capsys.readouterr().err
    assert "--require-signature: no public key" in said
    assert "absent.pem" in said


def test_explanation_of_a_server_says_what_is_not_signed(
    folder: Path, key: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / SIGNATURE).unlink()
    assert main([str(folder.parent.parent), "--explain", "--require-signature", str(key.public)]) == 1
    assert "model intent does not load: version 1: " in capsys.readouterr().out
