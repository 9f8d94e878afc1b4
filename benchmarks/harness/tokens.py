"""The harness's rules on tokens: where a context ends, what begins a text, what is cut.

The rules are those of ``TemplateLM`` and its ``hf`` model in lm-eval 0.4.13, so that a policy's
numbers can stand beside theirs. Pure: does not know who tokenises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from benchmarks.errors import BenchmarkError

TokenIds = tuple[int, ...]
OnOverflow = Literal["error", "truncate"]


class RenderedPrompt(str):
    """A conversation as the server renders it, and exactly the tokens it makes of it.

    The harness takes it for text, keeps it and pickles it. The tokens stay with it, since not every
    tokenizer gives the same ones for the text that they decode to.
    """

    token_ids: TokenIds

    def __new__(cls, text: str, token_ids: Sequence[int] = ()) -> Self:
        prompt = super().__new__(cls, text)
        prompt.token_ids = tuple(token_ids)
        return prompt


class Text(NamedTuple):
    """What is tokenised."""

    text: str
    adds_special_tokens: bool
    """Whether the tokenizer may put its BOS before it."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """Tokens to be scored, given those before them."""

    context: TokenIds
    continuation: TokenIds


def pair_texts(context: str, continuation: str) -> list[Text]:
    """What :func:`split_pair` needs the tokens of."""
    shown, adds = _shown(context)
    texts = [Text(context + continuation, adds)]
    if shown:
        texts.append(Text(shown, adds))
    if isinstance(context, RenderedPrompt):
        texts.append(Text(str(context), adds))
    return texts


def split_pair(context: str, continuation: str, token_ids: Mapping[Text, TokenIds]) -> Scoring:
    """Where context and continuation meet in the tokens of both.

    White space at the end of the context counts as the continuation's: a word's first token has it.
    The context is empty where there is no text in it.

    Raises:
        BenchmarkError: if the continuation has no token of its own.
    """
    shown, adds = _shown(context)
    head = token_ids[Text(shown, adds)] if shown else ()
    tail = token_ids[Text(context + continuation, adds)][len(head) :]
    if isinstance(context, RenderedPrompt):
        plain = token_ids[Text(str(context), adds)]
        if plain != context.token_ids:  # its text does not lead back to its tokens
            head = context.token_ids
            tail = token_ids[Text(context + continuation, adds)][len(plain) :]
    if not tail:
        raise BenchmarkError(
            f"continuation: {continuation!r} after {context[-20:]!r} has no token of its own; "
            "give the task a target_delimiter"
        )
    return Scoring(head, tail)


def begun(scoring: Scoring, prefix: int) -> Scoring:
    """The scoring with something to begin with: the prefix, or its own first token if it is that.

    Raises:
        BenchmarkError: if nothing but the prefix is to be scored.
    """
    if scoring.continuation[0] != prefix:
        return Scoring((prefix,), scoring.continuation)
    if len(scoring.continuation) == 1:
        raise BenchmarkError(
            "continuation: nothing but the token that begins every text; leave it out of the task"
        )
    return Scoring(scoring.continuation[:1], scoring.continuation[1:])


def fitted(scoring: Scoring, *, longest: int, on_overflow: OnOverflow) -> Scoring:
    """The scoring in at most ``longest`` tokens; the context loses its beginning.

    Raises:
        BenchmarkError: if it is too long and must not be cut, or its continuation alone is.
    """
    tokens = len(scoring.context) + len(scoring.continuation)
    if tokens <= longest:
        return scoring
    if len(scoring.continuation) >= longest:
        raise BenchmarkError(
            f"continuation: {len(scoring.continuation)} tokens, and no more than {longest - 1} can "
            "be scored; serve the policy with a larger --max-model-len"
        )
    _refuse(tokens, longest, on_overflow)
    return Scoring(scoring.context[tokens - longest :], scoring.continuation)


def fitted_prompt(
    prompt: TokenIds, *, max_tokens: int, max_model_len: int, on_overflow: OnOverflow
) -> TokenIds:
    """The end of a prompt that leaves room for ``max_tokens``.

    Raises:
        BenchmarkError: if there is no room for a prompt at all, or it must not be cut.
    """
    room = max_model_len - max_tokens
    if room < 1:
        raise BenchmarkError(
            f"max_gen_toks: {max_tokens} leaves no room for a prompt in the policy's "
            f"{max_model_len} tokens; give a smaller one in --gen_kwargs"
        )
    if len(prompt) > room:
        _refuse(len(prompt), room, on_overflow)
    return prompt[-room:]


def with_one_start(token_ids: TokenIds, start: TokenIds) -> TokenIds:
    """The tokens without the tokenizer's BOS where the text has one of its own."""
    n = len(start)
    return token_ids[n:] if n and token_ids[: 2 * n] == start * 2 else token_ids


def _shown(context: str) -> tuple[str, bool]:
    """The context without white space at its end, and whether it lacks a BOS."""
    shown = context.rstrip()
    return shown, bool(shown) and not isinstance(context, RenderedPrompt)


def _refuse(tokens: int, longest: int, on_overflow: OnOverflow) -> None:
    if on_overflow == "error":
        raise BenchmarkError(
            f"on_overflow: a context of {tokens} tokens, and the policy takes {longest}; serve it "
            "with a larger --max-model-len, or give --model_args on_overflow=truncate"
        )
