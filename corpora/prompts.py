"""The prompts world: conversations of the user's own, and nothing else.

A JSONL file gives one conversation a line, as ``messages``, as ``prompt`` text or as TRL's
conversational ``prompt``; ``id`` and ``reference`` are optional and other fields are ignored. It
suits a policy and a reward model that are trained already: there are no demonstrations, no reward
pairs and no gold.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from corpora.pool import Pool
from corpora.records import Record, read_jsonl
from corpora.world import Demonstration, Question, RewardPairs
from foundation.cache import content_key, digest_files

HELDOUT_SHARE = 0.2
"""Share of the distinct conversations that no round sees, at least one of them."""


class PromptsWorld:
    """Questions from a JSONL file, split into rounds and held-out by seed.

    Conversations that differ only in case or spacing are one; the first in the file stays.

    Args:
        path: the file.
        seed: of the split and of the order in which rounds walk their pool.

    Raises:
        CorpusError: naming file, line and field of the first record that does not fit, or that
            there are fewer than two distinct conversations.
    """

    name = "prompts"

    def __init__(self, path: Path, seed: int) -> None:
        questions = _distinct(read_prompts(path))
        if len(questions) < 2:
            raise CorpusError(
                f"data.path: {path}: one distinct conversation; rounds and held-out need one each"
            )
        random.Random(seed).shuffle(questions)
        heldout = max(1, round(HELDOUT_SHARE * len(questions)))
        self._heldout = Pool("data.heldout_questions", questions[:heldout])
        self._rounds = Pool("data.round_questions", questions[heldout:])
        self.digest = content_key(
            {"world": self.name, "file": digest_files(path), "seed": seed, "share": HELDOUT_SHARE}
        )

    def demonstrations(self) -> Sequence[Demonstration]:
        return ()

    def round_questions(self, round_number: int, count: int) -> Sequence[Question]:
        """The questions of one round.

        Raises:
            CorpusError: if a round wants more than there are.
        """
        return self._rounds.walk(round_number, count)

    def heldout_questions(self, count: int) -> Sequence[Question]:
        """The first held-out questions.

        Raises:
            CorpusError: if there are fewer than ``count``.
        """
        return self._heldout.first(count)

    def reward_questions(self, count: int) -> Sequence[Question]:
        return ()

    def reward_pairs(self, samples: Mapping[str, Sequence[str]]) -> RewardPairs:
        """Prompts alone do not say which answer is better.

        Raises:
            CorpusError: always.
        """
        raise CorpusError("reward.model: the prompts world has no reward pairs; set reward.model")

    def gold(self, question: Question, answer: str) -> float | None:
        return None


def read_prompts(path: Path) -> list[Question]:
    """Every record of a prompts file, in its order; ``id`` is ``line-N`` where there is none.

    Raises:
        CorpusError: naming file, line and field of the first record that does not fit.
    """
    questions: dict[str, Question] = {}
    for record in read_jsonl(path):
        question = _question(record)
        if question.id in questions:
            raise CorpusError(f"{record.where}: id: {question.id!r} is taken; make ids unique")
        questions[question.id] = question
    return list(questions.values())


def _question(record: Record) -> Question:
    try:
        conversation = _conversation(record)
    except CorpusError as error:
        raise CorpusError(f"{record.where}: {error}") from None
    return Question(
        id=record.optional_text("id") or f"line-{record.number}",
        conversation=conversation,
        reference=record.optional_text("reference"),
    )


def _conversation(record: Record) -> Conversation:
    messages, prompt = record.fields.get("messages"), record.fields.get("prompt")
    if messages is None and isinstance(prompt, str) and prompt.strip():
        return Conversation.ask(prompt)
    turns = prompt if messages is None else messages
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        fix = 'give {"messages": [...]} or {"prompt": "text"}'
        raise CorpusError(f"prompt: no conversation in {turns!r:.60}; {fix}")
    return Conversation.from_dicts(turns)


def _distinct(questions: Sequence[Question]) -> list[Question]:
    first: dict[str, Question] = {}
    for question in questions:
        messages = question.conversation.messages
        text = " ".join(f"{message.role} {message.content}" for message in messages)
        first.setdefault(" ".join(text.casefold().split()), question)
    return list(first.values())
