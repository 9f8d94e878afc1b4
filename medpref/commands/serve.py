"""``medpref serve``: the two services, each behind its own entry point."""

from __future__ import annotations

from foundation.parsing import Parser
from policy import __main__ as policy
from reward_server import __main__ as reward_server

SERVICES = {"reward": reward_server.main, "policy": policy.main}


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref serve",
        "Run the reward server or the policy server in the foreground.",
        examples="""  medpref serve reward --model runs/quickstart-1/reward_model --port 8100
  medpref serve policy --model runs/quickstart-1/policies/base --port 8000
  medpref serve reward --help""",
    )
    parser.add_argument("service", choices=SERVICES, help="which one; each has its own --help")
    options = parser.parse_args(arguments[:1])
    return SERVICES[options.service](arguments[1:], prog=f"medpref serve {options.service}")
