"""``medpref bench harness``: the harness's own command line, with the policy as its model.

The harness finds its models in a list of its own and has no plugins, so its ``lm_eval`` command
cannot know this one: this command registers it first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.errors import BenchmarkError
from foundation.parsing import Parser
from policy.protocol import BASE

UNKNOWN_TASKS = "Tasks not found: "
"""How the harness begins to say so."""

TASK_FLAGS = ("--tasks", "-t", "--config", "-C")

EXAMPLES = """  {prog} --server http://127.0.0.1:8000 --policy r3 --tasks pubmedqa,medmcqa
  {prog} --server http://127.0.0.1:8000 --tasks gsm8k --apply_chat_template --limit 50
  {prog} --server http://127.0.0.1:8000 --tasks my_task --include_path tasks --output_path out
  {prog} --server http://127.0.0.1:8000 --tasks my_task --gen_kwargs max_gen_toks=512"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "medpref bench harness") -> int:
    """Runs the harness on a served policy; returns 0.

    Raises:
        BenchmarkError: if the harness is not installed, or a task or the version is unknown.
        PolicyServerUnreachable: if nobody answers.
        PolicyRequestFailed: if the server refused, or failed to the end.
    """
    parser = Parser(
        prog,
        "Measure a served policy with lm-evaluation-harness. Every other flag goes to `lm_eval\n"
        "run`; `lm_eval run --help` and `lm_eval ls tasks` show what there is.",
        examples=EXAMPLES.format(prog=prog),
    )
    parser.add_argument("--server", required=True, metavar="URL", help="the policy server")
    parser.add_argument(
        "--policy", default=BASE, metavar="VERSION", help=f"what is measured. Default: {BASE}."
    )
    options, rest = parser.parse_known_args(arguments)
    if not any(argument.partition("=")[0] in TASK_FLAGS for argument in rest):
        parser.error("--tasks: missing; name one or more")
    # Only now, so that --help need not wait for the harness, nor have it.
    model = _registered_model()
    from lm_eval.__main__ import cli_evaluate  # noqa: PLC0415

    model_args = json.dumps({"base_url": options.server, "model": options.policy})
    with _command_line("lm_eval", "run", "--model", model, "--model_args", model_args, *rest):
        try:
            cli_evaluate()
        except ValueError as error:
            if not str(error).startswith(UNKNOWN_TASKS):
                raise
            raise BenchmarkError(
                f"--tasks: {str(error).removeprefix(UNKNOWN_TASKS)}: no such task; "
                "`lm_eval ls tasks` lists them, --include_path adds a folder of your own"
            ) from error
    return 0


def _registered_model() -> str:
    """The name under which the harness knows the model from now on."""
    from benchmarks.harness.model import NAME  # noqa: PLC0415

    return NAME


@contextmanager
def _command_line(*arguments: str) -> Iterator[None]:
    """The harness reads ``sys.argv`` and nothing else."""
    before, sys.argv = sys.argv, list(arguments)
    try:
        yield
    finally:
        sys.argv = before
