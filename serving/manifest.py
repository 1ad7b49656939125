"""``manifest.json``: what a version directory says of itself, sealed by one digest of everything it says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.errors import BundleError

FORMAT = 2
MANIFEST = "manifest.json"
# The signature of a version directory, made after the manifest: the one file besides it that no digest covers.
SIGNATURE = "model.sig"
# What the digest is called where a server tells it: in metadata, in a configuration, in requests and their answers.
MODEL_DIGEST = "model_digest"

# What the fields of a manifest are in JSON, by their annotation: the kind of each, and of what is in it.
KINDS: Mapping[str, tuple[type, type | tuple[type, ...]]] = {
    "str": (str, object),
    "int": (int, object),
    "bool": (bool, object),
    "Mapping[str, str]": (dict, str),
    "Mapping[str, float]": (dict, (int, float)),
    "Mapping[str, Any]": (dict, object),
    "Sequence[str]": (list, str),
    "Sequence[Mapping[str, Any]]": (list, dict),
}


@dataclass(frozen=True)
class Manifest:
    """What a version directory says about itself.

    ``graphs`` maps the task's graph names to files. ``tolerance`` bounds, per output field, the largest absolute
    difference of a golden answer, as agreed at export. ``batch_invariant`` is false where a row's
    answer depends on the rows it runs with (as of dynamic INT8), which export measures. Of each gate, ``gates`` has
    ``gate`` (its name), ``passed``, ``message``, ``figures``, and ``accepted``: the reason a person gave for taking the
    model all the same, empty for none. ``needs`` are instruction sets (see serving.processor) without which the graphs
    compute something else. ``quality``, ``source``, ``licence`` and ``host`` (where it was exported) are for people.

    ``digest`` is of everything above, and so, by the digests in ``files``, of the whole version. It stays that of the
    file where a server goes by another name, version or batch size.
    """

    name: str
    version: int
    task: str
    backend: str
    precision: str
    graphs: Mapping[str, str]
    tolerance: Mapping[str, float]
    max_batch_size: int
    batch_invariant: bool = True
    quality: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()
    needs: Sequence[str] = ()
    licence: str = ""
    host: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for ``manifest.json``."""
        return {"format": FORMAT, **self.__dict__}

    def sealed(self) -> Manifest:
        """The same with its digest, as it is to be written."""
        return dataclasses.replace(self, digest=digest_of(self.to_json()))

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """The inverse of to_json. Raises BundleError for another format, and for what is not as it was sealed."""
        if not isinstance(value, dict):
            raise BundleError(f"{MANIFEST} holds no object; export the model again")
        check_format(value.get("format"))
        if "digest" not in value:
            raise BundleError(f"{MANIFEST} has no digest of itself; export the model again")
        if value["digest"] != digest_of(value):
            raise BundleError(f"{MANIFEST} was changed after it was written")
        _check_kinds(value)
        fields: dict[str, Any] = {
            name: tuple(item) if name in ("gates", "needs") else item for name, item in value.items()
        }
        del fields["format"]
        try:
            return cls(**fields)
        except TypeError as error:
            raise BundleError(f"{MANIFEST}: {error}; export the model again") from error

    @property
    def failed_gates(self) -> list[Mapping[str, Any]]:
        """The gates that did not pass and that nobody accepted: a version that has one is in quarantine."""
        return [gate for gate in self.gates if not (gate.get("passed") is True or gate.get("accepted"))]

    def check_gates(self) -> None:
        """Raise BundleError that names every failed gate."""
        failed = self.failed_gates
        if failed:
            told = "; ".join(f"gate {gate.get('gate')} did not pass: {gate.get('message')}" for gate in failed)
            raise BundleError(
                f"is in quarantine: {told}; mend the model, or export it with --accept {failed[0].get('gate')}=REASON"
            )


def _check_kinds(value: Mapping[str, Any]) -> None:
    """Raise BundleError for a field that is of another kind than in Manifest: a manifest may be a stranger's."""
    for known in dataclasses.fields(Manifest):
        if known.name in value:
            found, (kind, inner) = value[known.name], KINDS[str(known.type)]
            items = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
            if not isinstance(found, kind) or not all(isinstance(item, inner) for item in items):
                raise BundleError(f"{MANIFEST}: {known.name} is no {known.type}; export the model again")


def check_format(found: Any) -> None:
    """Raise BundleError for a manifest of another format than this one, with what to do about it."""
    if isinstance(found, int) and found > FORMAT:
        raise BundleError(
            f"{MANIFEST}: format {found} is newer than this version of downstream reads ({FORMAT}): upgrade the "
            "server, or export again with the version of downstream that it runs"
        )
    if found != FORMAT:
        raise BundleError(f"{MANIFEST}: format {found!r} is older than {FORMAT}; export the model again")


def digest_of(manifest: Mapping[str, Any]) -> str:
    """``sha256:...`` of a manifest but for its ``digest``: of JSON with sorted keys, without spaces, in UTF-8."""
    # Once through JSON first: keys that are numbers in Python sort otherwise than as the texts that the file has.
    said = json.loads(json.dumps({name: value for name, value in manifest.items() if name != "digest"}))
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
