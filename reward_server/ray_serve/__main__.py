"""``python -m reward_server.ray_serve``; ``medpref serve replicas`` calls the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from reward_server.ray_serve.launch import run
from reward_server.ray_serve.settings import ScaleOutConfig

PROG = "python -m reward_server.ray_serve"


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> int:
    """Runs the server; returns 0 when it was asked to stop, 2 on bad usage or a failed start."""
    parser = Parser(
        prog,
        "Serve reward models in several processes on Ray Serve. SIGTERM or Ctrl-C answers what was "
        "admitted; SIGHUP reads the settings again and replaces the replicas one by one.",
        examples=f"""  {prog} --model runs/quickstart-1/reward_model --max-replicas 2
  {prog} --model PATH --min-replicas 2 --max-replicas 8 --replica-gpus 1
  {prog} --config server.toml --target-pending-tokens 100000
  serve run reward_server.ray_serve:build model=/models/reward max_replicas=8   # on a cluster""",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with these settings and [models.NAME] tables; flags go before it.",
    )
    add_settings(parser, ScaleOutConfig)
    options = parser.parse_args(arguments)

    def read() -> ScaleOutConfig:
        return read_settings(ScaleOutConfig, options, file=options.config)

    try:
        return run(read(), read)
    except UserError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
