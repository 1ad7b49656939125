"""A signature for a version directory, with the private half of a key whose public half servers are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.errors import InvalidInput, fault
from serving.manifest import SIGNATURE
from serving.signature import KEYS, covered, library

OPTION = "--sign"


def signer(private_key: Path) -> Any:
    """The library's signer with the private key in a file. Raises InvalidInput where that holds none: ask it first."""
    config = library().signing.Config()
    try:
        return config.use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # the library's exceptions have no common root
        remedy = f"give {KEYS}; it may have no password"
        raise InvalidInput(fault(OPTION, f"no private key ({error})", str(private_key), remedy)) from error


def sign(folder: Path, private_key: Path) -> Path:
    """Write ``model.sig`` for everything else in a version directory, the manifest included; its path.

    Raises InvalidInput as ``signer``. Source: OpenSSF Model Signing 1.0, a Sigstore bundle with an in-toto statement.
    """
    config = signer(private_key).set_hashing_config(covered())
    signature = folder / SIGNATURE
    sibling = folder.with_name(f".{folder.name}.{SIGNATURE}.writing")
    config.sign(folder, sibling)
    return sibling.replace(signature)
