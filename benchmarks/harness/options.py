"""What may be set of the harness's model."""

from __future__ import annotations

from pydantic import Field

from benchmarks.harness.tokens import OnOverflow
from foundation.settings import Settings
from policy.protocol import BASE


class ModelArguments(Settings):
    """What ``--model_args`` takes."""

    base_url: str
    """The policy server, for example ``http://127.0.0.1:8000``."""

    model: str = BASE
    """The policy version that is measured. The harness names its result files after ``model``; a
    ``version`` would take the place of each task's own in its tables."""

    num_concurrent: int = Field(default=64, ge=1)
    """Requests in flight."""

    max_gen_toks: int = Field(default=256, ge=1)
    """Longest answer where the task does not say, in tokens."""

    on_overflow: OnOverflow = "truncate"
    """What becomes of a context that is too long: it loses its beginning, as with the harness's
    other models, or it is an error."""

    prefix_token: str | None = None
    """What an empty context is replaced by; the tokenizer's BOS if not given."""

    seed: int = 1234
    """What the seeds of sampled answers are derived from."""
