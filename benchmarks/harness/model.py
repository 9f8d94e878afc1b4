"""The harness's model class for a deployed policy, registered as ``medpref``.

Promises: everything that is asked goes to one version of one server, at most ``num_concurrent``
requests at a time; answers keep the order of the requests; texts are tokenised, and refused if they
must be, before anything is scored. Context and continuation part where they do in the harness's
``hf`` model; ``is_greedy`` means that nowhere was a token likelier than the continuation's.

Batch sizes and devices are the server's: those that the harness names are not used.

Raises :class:`BenchmarkError` when imported without the harness.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from benchmarks.errors import BenchmarkError
from benchmarks.harness.generation import Generation, read_generation, seed_of
from benchmarks.harness.options import ModelArguments
from benchmarks.harness.tokens import (
    RenderedPrompt,
    Scoring,
    Text,
    TokenIds,
    begun,
    fitted,
    fitted_prompt,
    pair_texts,
    split_pair,
    with_one_start,
)
from benchmarks.harness.wire import HarnessClient, TokensAnswer
from benchmarks.window import in_order
from foundation.settings import check

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
    from tqdm import tqdm
except ModuleNotFoundError as error:
    missing = str(error.name).partition(".")[0]
    raise BenchmarkError(f"{missing}: not installed; pip install 'medpref[harness]'") from error

NAME = "medpref"
"""What the harness knows the class by."""

PROBE = (
    {"role": "user", "content": "What helps a stuffy nose?"},
    {"role": "assistant", "content": "Saline rinses."},
    {"role": "user", "content": "And a cough?"},
)
"""A conversation whose rendering stands for the chat template, which the server does not show."""

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)


class PolicyLM(LM):  # type: ignore[misc]  # the harness has no types
    """A policy version behind a policy server.

    Args:
        batch_size, max_batch_size, device: as the harness gives them; not used.
        arguments: the fields of :class:`ModelArguments`.

    Attributes:
        max_length: tokens that a context and its continuation may have together.
        truncated: contexts that lost their beginning, so far.

    Raises:
        SettingsError: if an argument does not fit.
        PolicyServerUnreachable: if nobody answers.
        BenchmarkError: if the version is not served.
    """

    def __init__(
        self,
        *,
        batch_size: object = None,
        max_batch_size: object = None,
        device: object = None,
        **arguments: object,
    ) -> None:
        super().__init__()
        self.arguments = check(ModelArguments, arguments, source="--model_args")
        empty = asyncio.run(_describe(self.arguments))
        self._start = tuple(empty.tokens)
        self._max_model_len = empty.max_model_len
        self.max_length = empty.max_model_len - 1  # the server insists on generating one more
        self.truncated = 0
        # One loop for all calls: the harness renders its conversations one by one.
        self._runner = asyncio.Runner()
        self._client = HarnessClient(self.arguments.base_url)

    def close(self) -> None:
        """Gives back connections and the event loop; the harness leaves that to the exit."""
        self._runner.run(self._client.aclose())
        self._runner.close()

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Of each ``(context, continuation)``: its log-likelihood and whether it is greedy."""
        pairs = [request.args for request in requests]
        ids = self._tokenise({text for pair in pairs for text in pair_texts(*pair)}, disable_tqdm)
        scorings = self._fitted(
            [self._begun(split_pair(context, continuation, ids)) for context, continuation in pairs]
        )
        return self._each(
            scorings,
            self._score,
            title="Scoring continuations",
            keep=lambda i, answer: self._keep("loglikelihood", requests[i], answer),
            is_quiet=disable_tqdm,
        )

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Of each text: its log-likelihood after the prefix token, every token predicted once.

        The prefix is the only BOS; a text longer than the model goes through it in windows.
        """
        texts = [Text(request.args[0], adds_special_tokens=False) for request in requests]
        ids = self._tokenise(set(texts), disable_tqdm)
        windows = [self._windows(ids[text]) for text in texts]
        scores = self._each(
            [window for each in windows for window in each],
            self._score,
            title="Scoring texts",
            is_quiet=disable_tqdm,
        )
        ends = accumulate(map(len, windows), initial=0)
        sums = [sum(logprob for logprob, _ in scores[a:b]) for a, b in pairwise(ends)]
        for request, total in zip(requests, sums, strict=True):
            self._keep("loglikelihood_rolling", request, total)
        return sums

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """The policy's answer to each ``(context, generation_kwargs)``, without its stop string."""
        jobs = self._generations([request.args for request in requests], disable_tqdm)

        async def complete(job: tuple[TokenIds, Generation, int]) -> str:
            prompt, generation, seed = job
            return await self._client.complete(
                prompt, generation, seed=seed, version=self.arguments.model
            )

        return self._each(
            jobs,
            complete,
            title="Generating",
            keep=lambda i, answer: self._keep("generate_until", requests[i], answer),
            is_quiet=disable_tqdm,
        )

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> RenderedPrompt:
        """The conversation in the chat template that is deployed."""
        return self._runner.run(
            self._client.render(
                chat_history,
                version=self.arguments.model,
                opens_answer=add_generation_prompt,
            )
        )

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """What stands for the template in the harness's records: how it renders a probe.

        Raises:
            BenchmarkError: if a template is asked for by name.
        """
        if isinstance(chat_template, str):
            raise BenchmarkError(
                f"--apply_chat_template: {chat_template}: the server has one template, the "
                "deployed one; leave out the name"
            )
        return str(self._probe) if chat_template else None

    @property
    def tokenizer_name(self) -> str:
        """Differs where tokenizer or chat template do: the harness's cached prompts rely on it."""
        about = f"{self._probe}\n{self._probe.token_ids}"
        return f"{NAME}-{hashlib.sha256(about.encode()).hexdigest()[:16]}"

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into the ``config`` of its results."""
        return {
            "policy_server": self.arguments.base_url,
            "policy_version": self.arguments.model,
            "policy_seed": self.arguments.seed,
            "max_length": self.max_length,
            "truncated_contexts": self.truncated,
        }

    @cached_property
    def _probe(self) -> RenderedPrompt:
        return self.apply_chat_template(PROBE)

    @cached_property
    def _prefix(self) -> int:
        """The token that an empty context is replaced by."""
        text = self.arguments.prefix_token
        if text is None:
            if not self._start:
                raise BenchmarkError(
                    "prefix_token: a context is empty, and this policy's tokenizer begins no text; "
                    "give its BOS or EOS, as --model_args prefix_token='<|endoftext|>'"
                )
            return self._start[0]
        asked = Text(text, adds_special_tokens=False)
        token_ids = self._tokenise({asked}, True)[asked]
        if len(token_ids) != 1:
            raise BenchmarkError(
                f"prefix_token: {text!r} is {len(token_ids)} tokens; give the text of one"
            )
        return token_ids[0]

    def _begun(self, scoring: Scoring) -> Scoring:
        return scoring if scoring.context else begun(scoring, self._prefix)

    def _windows(self, token_ids: TokenIds) -> list[Scoring]:
        if not token_ids:
            return []
        windows = get_rolling_token_windows(
            token_list=list(token_ids),
            prefix_token=self._prefix,
            max_seq_len=self.max_length - 1,
            context_len=1,
        )
        return [
            Scoring(tuple(context), tuple(continuation))
            for context, continuation in map(make_disjoint_window, windows)
        ]

    def _fitted(self, scorings: Sequence[Scoring]) -> list[Scoring]:
        fit = [
            fitted(each, longest=self.max_length, on_overflow=self.arguments.on_overflow)
            for each in scorings
        ]
        self._count_truncated(scorings, fit)
        return fit

    def _generations(
        self, asked: Sequence[tuple[str, dict[str, Any]]], is_quiet: bool
    ) -> list[tuple[TokenIds, Generation, int]]:
        """Prompt, settings and seed of each answer."""
        generations = [
            read_generation(normalize_gen_kwargs(settings, self.arguments.max_gen_toks))
            for _, settings in asked
        ]
        plain = {
            Text(context, True) for context, _ in asked if not isinstance(context, RenderedPrompt)
        }
        ids = self._tokenise(plain, is_quiet)
        prompts = [
            context.token_ids
            if isinstance(context, RenderedPrompt)
            else ids[Text(context, True)] or (self._prefix,)
            for context, _ in asked
        ]
        fit = [
            fitted_prompt(
                prompt,
                max_tokens=generation.max_tokens,
                max_model_len=self._max_model_len,
                on_overflow=self.arguments.on_overflow,
            )
            for prompt, generation in zip(prompts, generations, strict=True)
        ]
        self._count_truncated(prompts, fit)
        return list(zip(fit, generations, self._seeds(asked), strict=True))

    def _seeds(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[int]:
        repeats = Counter[int]()
        seeds = []
        for context, settings in asked:
            first = seed_of(self.arguments.seed, context, settings, repeat=0)
            seeds.append(seed_of(self.arguments.seed, context, settings, repeat=repeats[first]))
            repeats[first] += 1
        return seeds

    def _count_truncated(self, whole: Sequence[object], fit: Sequence[object]) -> None:
        count = sum(a != b for a, b in zip(whole, fit, strict=True))
        if count:
            logger.warning(
                "%d of %d contexts were too long for the policy's %d tokens and lost their "
                "beginning",
                count,
                len(whole),
                self._max_model_len,
            )
        self.truncated += count

    def _keep(self, method: str, request: Instance, answer: object) -> None:
        """Hands an answer to the harness's ``--use_cache``, from which a killed run goes on."""
        self.cache_hook.add_partial(method, request.args, answer)

    def _tokenise(self, texts: Collection[Text], is_quiet: bool) -> dict[Text, TokenIds]:
        ordered = list(texts)
        answers = self._each(ordered, self._token_ids, title="Tokenising", is_quiet=is_quiet)
        return dict(zip(ordered, answers, strict=True))

    async def _token_ids(self, text: Text) -> TokenIds:
        answer = await self._client.tokens(text, version=self.arguments.model)
        token_ids = tuple(answer.tokens)
        return with_one_start(token_ids, self._start) if text.adds_special_tokens else token_ids

    async def _score(self, scoring: Scoring) -> tuple[float, bool]:
        return await self._client.loglikelihood(scoring, version=self.arguments.model)

    def _each(
        self,
        items: Sequence[T],
        ask: Callable[[T], Awaitable[R]],
        *,
        title: str,
        keep: Callable[[int, R], None] | None = None,
        is_quiet: bool,
    ) -> list[R]:
        """The answers in the order of the items, each kept as it comes."""
        with tqdm(total=len(items), desc=title, disable=is_quiet or not items) as bar:

            async def one(numbered: tuple[int, T]) -> R:
                index, item = numbered
                answer = await ask(item)
                if keep:
                    keep(index, answer)
                bar.update()
                return answer

            async def every() -> list[R]:
                width = self.arguments.num_concurrent
                async with aclosing(in_order(enumerate(items), one, width=width)) as answers:
                    return [answer async for answer in answers]

            return self._runner.run(every())


register_model(NAME)(PolicyLM)


async def _describe(arguments: ModelArguments) -> TokensAnswer:
    """Checks that the version is served; what the server makes of an empty text. Asked once."""
    async with HarnessClient(arguments.base_url, retry_budget_seconds=0) as client:
        served = await client.versions()
        if arguments.model not in served:
            raise BenchmarkError(
                f"model: {arguments.model!r} is not served by {arguments.base_url}; served: "
                f"{', '.join(served) or 'no policy'}; give one of these, or load it first"
            )
        return await client.tokens(Text("", True), version=arguments.model)
