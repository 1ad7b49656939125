"""Pairs of elliptic curve keys for signatures, as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Pair:
    """Where the two halves of a key lie."""

    private: Path
    public: Path


def pair(folder: Path, name: str, curve: ec.EllipticCurve | None = None, password: bytes = b"") -> Pair:
    """A new pair, as ``openssl genpkey`` and ``openssl pkey -pubout`` write it."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    found = Pair(folder / f"{name}.pem", folder / f"{name}.pub.pem")
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    found.private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    found.public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return found
