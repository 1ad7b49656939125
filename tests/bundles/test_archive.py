"""Archives: the same bytes from the same version, and no harm from a stranger's."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundles import archive
from bundles.archive import digest, pack, unpack, version_in
from serving.bundle import digest_folder, open_bundle
from serving.errors import BundleError, InvalidInput
from serving.manifest import SIGNATURE
from tests.bundles.gates import failed_gate
from tests.serving.bundles import write_bundle

TARGETS = ["b.tar.gz", "b.tar"]


def tar_of(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    """A tar file of members in this order, whatever they are."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                header = tarfile.TarInfo(member[0])
                header.size = len(member[1])
                tar.addfile(header, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.size = kind, target, size
    return header


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_version_gives_the_same_bytes(version: Path, tmp_path: Path, name: str) -> None:
    first = pack(version, tmp_path / name)
    assert first == digest(tmp_path / name)
    copied = tmp_path / "elsewhere" / "intent" / "1"
    (copied / "assets").mkdir(parents=True)
    shutil.copy(version.parent / "config.pbtxt", copied.parent)
    for path in sorted(version.rglob("*"), reverse=True):
        if path.is_file():
            shutil.copyfile(path, copied / path.relative_to(version))
    for number, path in enumerate([*copied.rglob("*"), copied, copied.parent / "config.pbtxt"]):
        os.utime(path, (1000 + number, 2000 + number))
        path.chmod(0o700 if path.is_dir() else 0o755)
    assert pack(copied, tmp_path / f"again-{name}") == first


def test_another_version_gives_other_bytes(version: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", labels=("refund", "cancel", "thanks"))
    assert pack(version, tmp_path / "a.tar") != pack(other, tmp_path / "b.tar")


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_packed_is_unpacked_as_it_was(version: Path, tmp_path: Path, name: str) -> None:
    pack(version, tmp_path / name)
    folder = unpack(tmp_path / name, tmp_path / "out")
    assert folder == tmp_path / "out" / "intent" / "1"
    assert digest_folder(folder.parent) == digest_folder(version.parent)
    assert version_in(tmp_path / name) == ("intent", 1)


def test_members_say_nothing_of_who_packed_them_and_when(version: Path, tmp_path: Path) -> None:
    pack(version, tmp_path / "b.tar.gz")
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert (tmp_path / "b.tar.gz").read_bytes()[3:8] == b"\0" * 5, "flags and time of the gzip header"


def test_a_signature_is_packed_too_and_nothing_else_without_a_digest(version: Path, tmp_path: Path) -> None:
    (version / SIGNATURE).write_text("x")
    pack(version, tmp_path / "b.tar")
    assert (unpack(tmp_path / "b.tar", tmp_path / "out") / SIGNATURE).read_text() == "x"
    (version / "notes.txt").write_text("x")
    with pytest.raises(BundleError, match=r"no digest of notes\.txt"):
        pack(version, tmp_path / "c.tar")


def test_a_version_in_quarantine_is_not_packed_until_somebody_accepts_it(repository: Path, tmp_path: Path) -> None:
    version = write_bundle(repository, stated={"gates": [failed_gate("speed")]})
    with pytest.raises(BundleError, match="is in quarantine: gate speed did not pass: too slow"):
        pack(version, tmp_path / "b.tar")
    assert below(tmp_path) == [name for name in below(tmp_path) if name.startswith("repository")]
    pack(write_bundle(tmp_path / "other", stated={"gates": [failed_gate("speed", "for now")]}), tmp_path / "b.tar")


def test_the_configuration_in_an_archive_names_the_labels_of_its_own_version(repository: Path, tmp_path: Path) -> None:
    declared = 'output { name: "logits" data_type: TYPE_FP32 dims: 3 label_filename: "2/labels.txt" }'
    older = write_bundle(repository, config=declared)
    pack(older, tmp_path / "b.tar")
    packed = (unpack(tmp_path / "b.tar", tmp_path / "out").parent / "config.pbtxt").read_text()
    assert packed == (older.parent / "config.pbtxt").read_text().replace("2/labels.txt", "1/labels.txt")


@pytest.mark.parametrize("damaged", ["model.json", "golden.jsonl", "assets/labels.json", "assets/tokenizer.json"])
def test_a_damaged_version_is_not_packed(repository: Path, tmp_path: Path, damaged: str) -> None:
    version = write_bundle(repository, damaged=damaged)
    with pytest.raises(BundleError, match=f"{damaged} was changed"):
        pack(version, tmp_path / "b.tar.gz")
    assert below(tmp_path) == [name for name in below(tmp_path) if name.startswith("repository")]


def test_an_interrupted_pack_leaves_what_was_there(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pack(version, tmp_path / "b.tar.gz")

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "addfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(version, tmp_path / "b.tar.gz")
    assert digest(tmp_path / "b.tar.gz") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "repository"]


@pytest.mark.parametrize(
    ("name", "said"), [("b.tar.zst", "end it with .tar.gz or .tar"), ("none/b.tar", "a folder that exists")]
)
def test_a_target_that_cannot_be_is_told(version: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        pack(version, tmp_path / name)


CONFIG = ("m/config.pbtxt", b"")
HOSTILE: dict[str, tuple[Any, str]] = {
    "parent": (("../evil", b"x"), "'../evil' is outside the bundle"),
    "parent within": (("m/1/../../../evil", b"x"), "outside the bundle"),
    "absolute": (("/tmp/evil", b"x"), "outside the bundle"),
    "backslash": (("m\\1\\evil", b"x"), "outside the bundle"),
    "dot": (("./m/1/model", b"x"), "no plain path"),
    "newline": (("m/1/a\nb", b"x"), "no plain path"),
    "long": (("m/1/" + "a" * 256, b"x"), "no plain path"),
    "beside": (("m/evil", b"x"), "neither NAME/config.pbtxt nor below NAME/VERSION/"),
    "hidden": ((".m/1/evil", b"x"), "neither NAME"),
    "number": (("m/01/evil", b"x"), "neither NAME"),
    "symbolic link": (special("m/1/a", tarfile.SYMTYPE, "/etc/passwd"), "a link, a device"),
    "hard link": (special("m/1/a", tarfile.LNKTYPE, "m/config.pbtxt"), "a link, a device"),
    "device": (special("m/1/a", tarfile.CHRTYPE), "a link, a device"),
    "pipe": (special("m/1/a", tarfile.FIFOTYPE), "a link, a device"),
    "sparse": (special("m/1/a", tarfile.GNUTYPE_SPARSE), "a link, a device"),
    "folder outside": (special("../evil", tarfile.DIRTYPE), "outside the bundle"),
    "large": (special("m/1/a", tarfile.REGTYPE, size=65 * 2**30), "more than 10000 files or 64 GiB"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    member, said = HOSTILE[kind]
    with pytest.raises(BundleError, match="nothing was unpacked from it") as caught:
        unpack(tar_of(tmp_path / "b.tar", CONFIG, member), tmp_path / "out")
    assert said in str(caught.value)
    assert below(tmp_path) == ["b.tar", "out", "out/m", "out/m/config.pbtxt"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["m/1/a", "m/1/a", "m/config.pbtxt"], "'m/1/a' is there twice"),
        (["m/1/a", "m/1/a/b", "m/config.pbtxt"], "'m/1/a/b' is there twice"),
        (["m/1/a/b", "m/1/a", "m/config.pbtxt"], "'m/1/a' is there twice"),
        (["m/1/a", "m/2/a", "m/config.pbtxt"], "'m/2/a' is of another version than the files before it .m/1."),
        (["m/1/a", "n/1/a", "m/config.pbtxt"], "'n/1/a' is of another version"),
        (["m/config.pbtxt"], "holds m/config.pbtxt only"),
        (["m/1/a"], "holds m/1 only"),
        ([], "holds nothing only"),
    ],
)
def test_an_archive_that_is_not_one_version_is_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        unpack(tar_of(tmp_path / "b.tar", *((name, b"x") for name in names)), tmp_path / "out")


def test_more_files_than_a_bundle_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST", 3)
    packed = tar_of(tmp_path / "b.tar", *((f"m/1/{number}", b"") for number in range(5)))
    with pytest.raises(BundleError, match="'m/1/3' makes it more than 3 files"):
        unpack(packed, tmp_path / "out")


def test_a_header_that_asks_for_gigabytes_gets_none(tmp_path: Path) -> None:
    """A long name of 4 GiB of zeros is 4 MB of gzip; here the header alone says so."""
    header = special("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=4 * 2**30).tobuf()
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(header + b"\0" * 2**16))
    with pytest.raises(BundleError, match="a header of 4294967296 bytes"):
        unpack(tmp_path / "b.tar.gz", tmp_path / "out")


def test_headers_that_follow_one_another_for_ever_are_refused(tmp_path: Path) -> None:
    header = special("././@PaxHeader", tarfile.XHDTYPE).tobuf()
    (tmp_path / "b.tar").write_bytes(header * 5000)
    with pytest.raises(BundleError, match="is damaged, or no archive"):
        unpack(tmp_path / "b.tar", tmp_path / "out")


@given(
    name=st.one_of(
        st.text(max_size=12),
        st.lists(st.sampled_from(["..", ".", "", "m", "1", "a", "config.pbtxt", "\\"]), max_size=6).map("/".join),
    ),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE]),
)
@settings(max_examples=80, deadline=None)
def test_no_member_writes_anything_but_files_of_one_version(name: str, kind: bytes) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            packed = tar_of(folder / "b.tar", ("m/1/first", b"x"), special(name, kind, "/etc/passwd"), CONFIG)
        except (ValueError, UnicodeError):
            return
        with suppress(BundleError):
            unpack(packed, folder / "out")
        assert sorted(path.name for path in folder.iterdir()) == ["b.tar", "out"]
        for path in folder.rglob("*"):
            assert not path.is_symlink()
            parts = path.relative_to(folder).parts
            assert parts in {("b.tar",), ("out",)} or parts[1] == "m"
            assert len(parts) < 3 or parts[2] in ("1", "config.pbtxt"), parts


def survives(packed: Path, change: Callable[[bytes], bytes]) -> bool:
    """Whether a changed archive is still taken, digests verified; then its files must be what they were."""
    with tempfile.TemporaryDirectory() as temporary:
        changed = Path(temporary) / "b"
        changed.write_bytes(change(packed.read_bytes()))
        try:
            original = unpack(packed, Path(temporary) / "original")
            folder = unpack(changed, Path(temporary) / "out")
            open_bundle(folder)
        except BundleError:
            return False
        assert digest_folder(folder) == digest_folder(original)
        return True


@pytest.fixture(scope="module", params=TARGETS)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(write_bundle(folder / "repository"), folder / request.param)
    return folder / str(request.param)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_caught_or_changes_nothing(packed: Path, place: float, bit: int) -> None:
    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[int(place * len(content))] ^= 1 << bit
        return bytes(changed)

    survives(packed, flip)


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_archive_is_caught(packed: Path, share: float) -> None:
    # Of a tar file the end is zeros that may be missing.
    content = packed.read_bytes()
    whole = len(content) if packed.suffix == ".gz" else len(content.rstrip(b"\0"))
    assert not survives(packed, lambda content: content[: int(share * whole)])


@given(content=st.binary(max_size=2000), magic=st.sampled_from([b"", b"\x1f\x8b\x08\0"]))
@settings(max_examples=50, deadline=None)
def test_bytes_that_are_no_archive_are_told(content: bytes, magic: bytes) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "b"
        path.write_bytes(magic + content)
        for look in (lambda: unpack(path, Path(temporary) / "out"), lambda: version_in(path)):
            with pytest.raises(BundleError):
                look()
