"""``downstream serve``: a model repository to answers over HTTP and gRPC."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from serving import logs, signature
from serving import settings as settings_module
from serving.errors import DownstreamError
from serving.workers.supervisor import Supervisor


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream serve",
        description="Serve every model of a repository over REST (KServe v2 and :predict) and gRPC.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  downstream serve model_repository/
  downstream serve model_repository/ --host 0.0.0.0 --http-port 80 --runners 4
  downstream serve model_repository/ --workers 4                    four processes on the same ports
  downstream serve model_repository/ --require-signature public.pem
  DOWNSTREAM_DRAIN_DELAY=5 downstream serve model_repository/       in Kubernetes

A model becomes ready only after it has reproduced its golden rows. SIGTERM: not ready at once, requests in flight
are answered, then exit code 0. Settings: command line over environment over --config file over default.""",
    )
    command.add_argument("repository", type=Path, help="folder of model directories, as written by downstream export")
    command.add_argument(
        "--explain", action="store_true", help="load the models, print what runs cost and how rows are scheduled, exit"
    )
    settings_module.add_arguments(command)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop; the exit code."""
    args = parser().parse_args(argv)
    try:
        settings = settings_module.resolve(args, os.environ)
        if not args.repository.is_dir():
            raise DownstreamError(f"{args.repository}: no such folder; give the folder that downstream export wrote to")
        if settings.require_signature:
            signature.verifier(Path(settings.require_signature))
    except DownstreamError as error:
        print(f"downstream serve: {error}", file=sys.stderr)
        return 2
    logs.begin(settings)
    if args.explain:
        from serving import explain

        return explain.run(args.repository, settings)
    if settings.workers > 1:
        return asyncio.run(Supervisor(args.repository, settings).run())
    # Not above: a process that only supervises needs none of it.
    from serving import server

    return server.run(args.repository, settings)


if __name__ == "__main__":
    sys.exit(main())
