"""The signature of a version directory: the holder of a key vouches for exactly these files (OpenSSF)."""

from __future__ import annotations

import ast
from contextlib import suppress
from pathlib import Path
from typing import Any

from serving.errors import BundleError, InvalidInput, fault
from serving.manifest import SIGNATURE

OPTION = "--require-signature"
DIFFERENT = "Signature mismatch: "
KEYS = (
    "an elliptic curve key on P-256, P-384 or P-521 in PEM form: openssl genpkey -algorithm EC -pkeyopt "
    "ec_paramgen_curve:P-256 -out private.pem, and openssl pkey -in private.pem -pubout -out public.pem"
)


def library() -> Any:
    """The package model_signing, which takes most of a second to import. Raises InvalidInput where it is not there."""
    try:
        import model_signing
    except ImportError as error:
        raise InvalidInput(f"signatures need a package that is not here ({error}); install downstream[sign]") from error
    return model_signing


def covered() -> Any:
    """What is signed, for the library: every file of a version directory but the signature itself."""
    return library().hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def verifier(key: Path) -> Any:
    """The library's verifier with the public key in a file. Raises InvalidInput where that holds none."""
    config = library().verifying.Config()
    try:
        return config.use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # the library's exceptions have no common root
        raise InvalidInput(fault(OPTION, f"no public key ({_said(error)})", str(key), f"give {KEYS}")) from error


def verify(folder: Path, key: Path) -> None:
    """Raise BundleError where a version directory is not signed by the owner of a public key just as it is."""
    signature = folder / SIGNATURE
    config = verifier(key).set_hashing_config(covered())
    if not signature.is_file():
        raise BundleError(f"{folder}: is not signed, and {OPTION} asks for it; export it with --sign PRIVATE_KEY")
    try:
        config.verify(folder, signature)
    except Exception as error:
        raise BundleError(f"{folder}: {SIGNATURE} does not hold with the key {key}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What the library says, for people; of files that differ it lists the digests too, as raw bytes."""
    text = str(error)
    if text.startswith(DIFFERENT):
        with suppress(ValueError, SyntaxError):
            lines = ast.literal_eval(text.removeprefix(DIFFERENT))
            return "; ".join(line.partition(": Expected ")[0] for line in lines)
    return " ".join(text.split()) or type(error).__name__
