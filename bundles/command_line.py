"""The words and options of ``downstream bundle``, and the help that teaches them."""

from __future__ import annotations

import argparse
from pathlib import Path

CODES = {
    "verify": "0 all is as it was exported, 1 something is wrong, 2 nothing could be verified",
    "show": "0 shown, 1 the bundle is damaged, 2 there is none",
    "diff": "0 equal, 1 different, 2 they could not be compared",
    "pack": "0 packed, 1 the bundle is damaged or in quarantine, 2 it could not be written",
    "push": "0 pushed, or there already, 1 the bundle is damaged, in quarantine, or the store has another one of this "
    "version, 2 the store cannot be reached",
    "pull": "0 pulled, or there already, 1 it does not verify or the repository has another one of this version, "
    "2 the store cannot be reached or has no such object",
}

EXAMPLES = {
    "verify": """  downstream bundle verify model_repository
  downstream bundle verify model_repository/tickets/3 tickets-2.tar.gz
  downstream bundle verify model_repository --json | jq .ok

Every file is compared with its digest, config.pbtxt with what the model takes and gives, and the golden rows are
answered on this host and compared with PyTorch's answers, within the tolerance agreed at export. What a gate of export
refused and nobody accepted is wrong. --require-signature needs pip install 'downstream[sign]'; without the signature,
nothing of the version is run.""",
    "show": """  downstream bundle show model_repository/tickets
  downstream bundle show tickets-2.tar.gz
  downstream bundle show model_repository/tickets/1 --json | jq .source""",
    "diff": """  downstream bundle diff model_repository/tickets 1 2
  downstream bundle diff model_repository/tickets/2 tickets-2.tar.gz
  downstream bundle diff staging/tickets production/tickets --json

What matters most comes first, and once more in one sentence. Names and version numbers are not compared.""",
    "pack": """  downstream bundle pack model_repository/tickets
  downstream bundle pack model_repository/tickets/2 -o /backup/tickets-2.tar

The same version gives the same bytes, on every machine (.tar.gz: with the same zlib). Its config.pbtxt is
in it too, and so is its signature.""",
    "push": """  downstream bundle push model_repository/tickets s3://models/production
  downstream bundle push model_repository/tickets/2 file:///srv/models

Writes URL/NAME-VERSION.tar.gz and, last, its .sha256. URLs are those of fsspec: s3:// (pip install s3fs), gs://
(gcsfs), az:// (adlfs), hf:// (huggingface_hub), file://. Credentials are found as these packages find them. What was
pushed does not change: another bundle of the same version is refused.""",
    "pull": """  downstream bundle pull s3://models/production/tickets-2.tar.gz model_repository
  downstream bundle pull file:///srv/models/tickets-2.tar.gz model_repository

Everything that verify looks at is verified before the version gets its place; a server sees all of it or nothing. After
an interruption the same command goes on where the download ended.""",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream bundle",
        description="Verify, look at, compare and move what export wrote. Needs nothing that training needs.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  downstream bundle verify model_repository
  downstream bundle show model_repository/tickets
  downstream bundle diff model_repository/tickets 1 2
  downstream bundle pack model_repository/tickets
  downstream bundle push model_repository/tickets s3://models/production
  downstream bundle pull s3://models/production/tickets-2.tar.gz model_repository

a path is a repository, a model directory in one, a version directory of it, or an archive that pack wrote
exit codes: 0 yes, 1 no (wrong, different, refused), 2 it could not be done; each command's --help has its own""",
    )
    words = command.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = "model directory (its newest version), version directory or archive"
    verify = _add(words, "verify", "whether versions are what was exported, and answer here as they did there")
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="repository, model, version or archive")
    _add_json(verify)
    _add_key(verify)
    show = _add(words, "show", "what a version is and where it came from")
    show.add_argument("path", type=Path, metavar="PATH", help=one)
    _add_json(show)
    diff = _add(words, "diff", "what differs between two versions")
    diff.add_argument("paths", nargs="+", metavar="PATH", help=f"two of: {one}; or a model directory and two versions")
    _add_json(diff)
    pack = _add(words, "pack", "one version as one file")
    pack.add_argument("path", type=Path, metavar="PATH", help=one)
    pack.add_argument(
        "-o", dest="output", type=Path, metavar="FILE", help=".tar.gz or .tar (default NAME-VERSION.tar.gz)"
    )
    push = _add(words, "push", "one version into a folder of a store")
    push.add_argument("path", type=Path, metavar="PATH", help=one)
    push.add_argument("url", metavar="URL", help="the folder")
    pull = _add(words, "pull", "an archive of a store into a repository")
    pull.add_argument("url", metavar="URL", help="the archive, as push named it")
    pull.add_argument("repository", type=Path, metavar="REPOSITORY", help="model repository; made if it is not there")
    _add_key(pull)
    return command


def _add(words: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str) -> argparse.ArgumentParser:
    return words.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n{EXAMPLES[name]}\n\nexit codes: {CODES[name]}",
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="JSON instead of text, for machines")


def _add_key(command: argparse.ArgumentParser) -> None:
    command.add_argument("--require-signature", type=Path, metavar="KEY", help="public key that must have signed it")
