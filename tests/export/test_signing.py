"""Signing at export: a private key that can be used, or the reason why not before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.signing import sign, signer
from serving.errors import InvalidInput
from serving.manifest import SIGNATURE
from serving.signature import verify
from tests.export.test_bundle_writer import write
from tests.serving.bundles import write_bundle
from tests.serving.keys import pair


@pytest.mark.parametrize("wrong", ["absent", "no key", "public", "password"])
def test_file_that_holds_no_private_key_is_named_and_nothing_is_written(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pem"
    if wrong == "no key":
        path.write_text("hello")
    elif wrong == "public":
        path = pair(tmp_path, "own").public
    elif wrong == "password":
        path = pair(tmp_path, "own", password=b"secret").private
    folder = write_bundle(tmp_path / "models")
    for ask in (lambda: signer(path), lambda: sign(folder, path)):
        with pytest.raises(InvalidInput, match="--sign: no private key .*openssl genpkey -algorithm EC"):
            ask()
    assert not (folder / SIGNATURE).exists()


def test_bundle_is_signed_as_a_whole_once_it_has_proved_itself(tmp_path: Path) -> None:
    key = pair(tmp_path, "own")
    final = write(tmp_path, private_key=key.private)
    verify(final, key.public)
    assert not (write(tmp_path, 2) / SIGNATURE).exists()
