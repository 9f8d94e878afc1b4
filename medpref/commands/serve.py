"""``medpref serve``: the services, each behind its own entry point."""

from __future__ import annotations

from foundation.parsing import Parser
from policy import __main__ as policy
from reward_server import __main__ as reward_server


def _replicas(arguments: list[str], *, prog: str) -> int:
    from reward_server.ray_serve.__main__ import main as serve_replicas  # noqa: PLC0415 - needs ray[serve]

    return serve_replicas(arguments, prog=prog)


SERVICES = {"reward": reward_server.main, "replicas": _replicas, "policy": policy.main}


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref serve",
        "Run the reward server, replicas of it on Ray Serve, or the policy server, in front.",
        examples="""  medpref serve reward --model runs/quickstart-1/reward_model --port 8100
  medpref serve policy --model runs/quickstart-1/policies/base --port 8000
  medpref serve reward --help""",
    )
    parser.add_argument("service", choices=SERVICES, help="which one; each has its own --help")
    options = parser.parse_args(arguments[:1])
    return SERVICES[options.service](arguments[1:], prog=f"medpref serve {options.service}")
