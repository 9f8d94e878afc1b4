"""The command line: finds the command, runs it, turns errors into exit codes.

Exit codes: 0 success, 1 a failed job, 2 bad usage or configuration, 130 interrupted. A command's
module is imported when it is called, so help is quick and a client needs no torch.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

from foundation.errors import JobError, UserError
from foundation.parsing import Parser
from medpref import __version__

COMMANDS = {
    "quickstart": "the main job on the bundled world, from nothing",
    "align": "launch or resume alignment rounds",
    "serve": "run the reward server or the policy server",
    "score": "score a file with a running reward server; goes on after a kill",
    "calibrate": "see how a reward model's rewards are spread, for a server to use",
    "keys": "make, list and revoke the keys of a reward server",
    "replay": "score an audit log again and compare",
    "bench": "evaluate reward models and policies; measure speed beside others",
    "train": "run one training stage alone: sft, reward or preference",
    "report": "write a run's report again",
    "runs": "list runs",
    "cache": "show or clear the models that were made here",
}

EXAMPLES = """  medpref quickstart
  medpref align recipes/quickstart.toml --set rounds=1
  medpref serve reward --model runs/quickstart-1/reward_model --port 8100
  medpref score groups.jsonl rewards.jsonl --server http://127.0.0.1:8100
  medpref COMMAND --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not given:
        parser.print_help()
        return 2
    if given[0] not in COMMANDS:
        parser.parse_args(given[:1])
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    return _run(given[0], given[1:])


def _run(command: str, arguments: list[str]) -> int:
    try:
        return int(import_module(f"medpref.commands.{command}").main(arguments))
    except UserError as error:
        return _fail(command, error, code=2)
    except JobError as error:
        return _fail(command, error, code=1)
    except KeyboardInterrupt:
        return _fail(command, "interrupted; what was finished is kept", code=130)


def _fail(command: str, error: object, *, code: int) -> int:
    sys.stderr.write(f"medpref {command}: {' '.join(str(error).split())}\n")
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that servers are drained and the ledger is closed."""
    signal.raise_signal(signal.SIGINT)


def _parser() -> Parser:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {does}" for name, does in COMMANDS.items())
    parser = Parser(
        "medpref",
        "A reward-model service and an online preference-learning loop for medical language"
        f" models.\n\ncommands:\n{commands}",
        examples=EXAMPLES,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    parser.add_argument("--version", action="version", version=f"medpref {__version__}")
    return parser
