"""``python -m reward_server``: reward models behind one port."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from reward_server.config import RewardServerConfig

PROG = "python -m reward_server"


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> int:
    """Runs the server; returns 0 when it was asked to stop, 1 if it failed, 2 on bad usage."""
    parser = Parser(
        prog,
        "Serve reward models over HTTP. SIGTERM or Ctrl-C answers what was admitted.",
        examples=f"""  {prog} --model runs/quickstart-1/reward_model --port 8100
  {prog} --model runs/quickstart-1/reward_model --dtype float32 --deterministic
  {prog} --model PATH --host 0.0.0.0 --keys keys.json     # medpref keys add keys.json --name ...
  {prog} --config server.toml     # several models: [models.NAME] tables; see docs/serving.md""",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with these settings and [models.NAME] tables; flags go before it.",
    )
    add_settings(parser, RewardServerConfig)
    options = parser.parse_args(arguments)
    try:
        config = read_settings(RewardServerConfig, options, file=options.config)
        # Only now, so that --help and bad usage need not wait for torch.
        from reward_server.server import serve  # noqa: PLC0415

        return serve(config)
    except UserError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
