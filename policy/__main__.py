"""``python -m policy``: serves a base policy and its adapters in the foreground."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import JobError, UserError
from foundation.parsing import Parser, add_settings, read_settings
from policy.config import PolicyServerConfig
from policy.server import serve

PROG = "python -m policy"


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> int:
    """Returns the exit code: 0 when stopped, 1 if the server kept crashing, 2 on bad usage."""
    options = _parser(prog).parse_args(arguments)
    try:
        serve(read_settings(PolicyServerConfig, options), adapters=dict(options.adapter))
    except (UserError, JobError) as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return 2 if isinstance(error, UserError) else 1
    return 0


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Serve a policy and its adapters over HTTP with vLLM, on 127.0.0.1 only.\n"
        "SIGTERM or Ctrl-C lets running requests finish.",
        examples=f"""  {prog} --model runs/quickstart-1/policies/base --dtype float32 \\
      --adapter r1=runs/quickstart-1/policies/r1""",
    )
    add_settings(parser, PolicyServerConfig)
    parser.add_argument(
        "--adapter",
        type=_adapter,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a policy version and its adapter folder; may be repeated",
    )
    return parser


def _adapter(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}: write it as NAME=PATH")
    return name, Path(path)


if __name__ == "__main__":
    sys.exit(main())
