"""``python -m reward_server``: one reward model behind one port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from reward_server.config import RewardServerConfig

PROG = "python -m reward_server"


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> int:
    """Runs the server; returns 0 when it was asked to stop, 1 if it failed, 2 on bad usage."""
    parser = Parser(
        prog,
        "Serve a reward model over HTTP. SIGTERM or Ctrl-C answers what was admitted.",
        examples=f"  {prog} --model runs/quickstart-1/reward_model --port 8100",
    )
    add_settings(parser, RewardServerConfig)
    options = parser.parse_args(arguments)
    try:
        config = read_settings(RewardServerConfig, options)
        # Only now, so that --help and bad usage need not wait for torch.
        from reward_server.server import serve  # noqa: PLC0415

        return serve(config)
    except UserError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
