"""Pairs: a conversation, its chosen and its rejected candidate, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corpora.conversation import Conversation
from corpora.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Lineage:
    """Who sampled, who scored, in which round. Empty fields: a pair that no round made."""

    policy_version: str | None = None
    fingerprint: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference. Rewards are raw, and ``None`` where nobody scored."""

    conversation: Conversation
    chosen: str
    rejected: str
    question_id: str = ""
    chosen_reward: float | None = None
    rejected_reward: float | None = None
    lineage: Lineage = Lineage()

    @property
    def margin(self) -> float | None:
        """The reward of the chosen minus the reward of the rejected candidate."""
        if self.chosen_reward is None or self.rejected_reward is None:
            return None
        return self.chosen_reward - self.rejected_reward

    def swap(self) -> Pair:
        """The opposite preference."""
        return replace(
            self,
            chosen=self.rejected,
            rejected=self.chosen,
            chosen_reward=self.rejected_reward,
            rejected_reward=self.chosen_reward,
        )

    def to_trl(self) -> dict[str, Any]:
        """TRL's conversational preference format, explicit prompt, lineage beside it."""
        return {
            "prompt": self.conversation.to_dicts(),
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
            "question_id": self.question_id,
            "chosen_reward": self.chosen_reward,
            "rejected_reward": self.rejected_reward,
            "margin": self.margin,
            "policy_version": self.lineage.policy_version,
            "fingerprint": self.lineage.fingerprint,
            "round": self.lineage.round,
        }

    @classmethod
    def from_trl(cls, row: Mapping[str, Any]) -> Pair:
        """The inverse of :meth:`to_trl`; lineage and rewards may be absent.

        Raises:
            CorpusError: naming the field that is missing or malformed.
        """
        return cls(
            conversation=Conversation.from_dicts(_messages(row, "prompt")),
            chosen=_answer(row, "chosen"),
            rejected=_answer(row, "rejected"),
            question_id=row.get("question_id") or "",
            chosen_reward=row.get("chosen_reward"),
            rejected_reward=row.get("rejected_reward"),
            lineage=Lineage(row.get("policy_version"), row.get("fingerprint"), row.get("round")),
        )


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(pair.to_trl(), ensure_ascii=False) + "\n" for pair in pairs)
    partial.replace(path)


def read_pairs(path: Path) -> Iterator[Pair]:
    """Reads what :func:`write_pairs` wrote, or any file in TRL's conversational format.

    Raises:
        CorpusError: naming file, line and field of the first record that does not fit.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                yield Pair.from_trl(row)
            except (json.JSONDecodeError, CorpusError, AttributeError) as error:
                raise CorpusError(f"{path}:{number}: {error}") from error


def _messages(row: Mapping[str, Any], field: str) -> Sequence[Mapping[str, object]]:
    messages = row.get(field)
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise CorpusError(f"{field}: expected a list of messages, got {messages!r}")
    return messages


def _answer(row: Mapping[str, Any], field: str) -> str:
    messages = _messages(row, field)
    if len(messages) != 1 or not isinstance(messages[0].get("content"), str):
        raise CorpusError(f"{field}: expected one assistant message, got {messages!r}")
    return str(messages[0]["content"])
