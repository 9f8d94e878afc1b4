"""``medpref keys``: who may use a reward server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from foundation.errors import UserError
from foundation.parsing import Parser
from foundation.settings import check
from reward_server.keyfile import Key, Scope, add_key, digest, new_secret, read_keys, revoke_key

EXAMPLES = """  medpref keys add keys.json --name loop --tokens-per-minute 2000000
  medpref keys add keys.json --name operator --scope admin --expires 2027-01-31
  medpref keys list keys.json
  medpref keys revoke keys.json --name loop
  medpref serve reward --model PATH --host 0.0.0.0 --keys keys.json"""


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    today = datetime.now(UTC).date()
    action: Callable[[argparse.Namespace, date], None] = options.run
    action(options, today)
    return 0


def add(options: argparse.Namespace, today: date) -> None:
    """Adds a key; its secret is the one line on standard output."""
    if options.expires is not None and options.expires <= today:
        raise UserError(f"--expires: {options.expires} is not to come; give a day after {today}")
    secret = new_secret()
    content = {
        "name": options.name,
        "sha256": digest(secret),
        "scopes": tuple(dict.fromkeys(options.scopes or ["score"])),
        "tokens_per_minute": options.tokens_per_minute,
        "created": today,
        "expires": options.expires,
    }
    key = check(Key, content, source="command line")
    add_key(options.file, key)
    sys.stdout.write(f"{secret}\n")
    sys.stderr.write(
        f"{options.file} knows {key.name!r} now; keep the secret, it is nowhere else\n"
    )


def show(options: argparse.Namespace, today: date) -> None:
    """Lists the keys of a file, never anything of their secrets."""
    table = Table("name", "scopes", "tokens a minute", "made", "expires", box=None, pad_edge=False)
    for key in read_keys(options.file):
        quota = "no limit" if key.tokens_per_minute is None else f"{key.tokens_per_minute:,}"
        expires = f"{key.expires or 'never'}{' (has)' if key.is_expired(today) else ''}"
        table.add_row(key.name, ", ".join(key.scopes), quota, str(key.created), expires)
    Console().print(table)


def revoke(options: argparse.Namespace, today: date) -> None:
    """Takes a key out of a file."""
    revoke_key(options.file, options.name)
    sys.stdout.write(f"{options.file} does not know {options.name!r} any more\n")


def _parser() -> Parser:
    parser = Parser(
        "medpref keys",
        "Make, list and revoke the keys of a reward server. A server that runs notices by itself.",
        examples=EXAMPLES,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=Parser)
    adding = _action(actions, "add", add, "make a key and print its secret, once")
    adding.add_argument("--name", required=True, help="whose it is; logs and the audit use it")
    adding.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        choices=get_args(Scope),
        help="what it opens, repeatable; default: score",
    )
    adding.add_argument(
        "--tokens-per-minute", type=int, metavar="T", help="quota; default: no limit"
    )
    adding.add_argument(
        "--expires", type=_day, metavar="DATE", help="first day in UTC without it; default: never"
    )
    _action(actions, "list", show, "list the keys, never their secrets")
    revoking = _action(actions, "revoke", revoke, "take a key away")
    revoking.add_argument("--name", required=True, help="which one")
    return parser


def _action(
    actions: argparse._SubParsersAction[Parser],
    name: str,
    run: Callable[[argparse.Namespace, date], None],
    does: str,
) -> Parser:
    action = actions.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    action.add_argument("file", type=Path, metavar="FILE", help="the key file")
    action.set_defaults(run=run)
    return action


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write it as 2027-01-31") from None
