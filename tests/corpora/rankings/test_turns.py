"""Conversations and answers in the shapes that files give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from corpora.conversation import MessageDict
from corpora.errors import CorpusError
from corpora.rankings.turns import read_answer, read_conversation, read_id, read_preference
from corpora.records import Record
from tests.corpora.rankings.reading import ASKED, record_of, said, system, user

GOOD, BAD = "Saline.", "Antibiotics."
BRIEF = system("Be brief.")


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        pytest.param({"prompt": ASKED, "chosen": GOOD, "rejected": BAD}, [user()], id="texts"),
        pytest.param(
            {"prompt": [BRIEF, user()], "chosen": GOOD, "rejected": BAD},
            [BRIEF, user()],
            id="messages asked",
        ),
        pytest.param(
            {"prompt": ASKED, "chosen": [said(GOOD)], "rejected": [said(BAD)]},
            [user()],
            id="messages answered",
        ),
        pytest.param(
            {"prompt": ASKED, "chosen": said(GOOD), "rejected": said(BAD)},
            [user()],
            id="single messages",
        ),
        pytest.param(
            {"prompt": ASKED, "chosen": [user(), said(GOOD)], "rejected": [user(), said(BAD)]},
            [user()],
            id="prompt repeated",
        ),
        pytest.param(
            {
                "prompt": f" {ASKED}\n",
                "chosen": [BRIEF, user(), said(GOOD)],
                "rejected": [BRIEF, user(), said(BAD)],
            },
            [BRIEF, user()],
            id="prompt repeated behind a system message",
        ),
        pytest.param(
            {
                "prompt": [user("Hello.")],
                "chosen": [said("Hello!"), user(), said(GOOD)],
                "rejected": [said("Hello!"), user(), said(BAD)],
            },
            [user("Hello."), said("Hello!"), user()],
            id="prompt gone on with",
        ),
        pytest.param(
            {"prompt": None, "chosen": [user(), said(GOOD)], "rejected": [user(), said(BAD)]},
            [user()],
            id="no prompt",
        ),
    ],
)
def test_every_shape_gives_the_same_preference(
    fields: dict[str, Any], asked: Sequence[MessageDict]
) -> None:
    preference = read_preference(record_of(**fields), prompt="prompt")
    assert preference.conversation.to_dicts() == asked
    assert (preference.chosen, preference.rejected) == (GOOD, BAD)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"chosen": GOOD, "rejected": BAD}, "prompt: missing, and the", id="nothing"),
        pytest.param({"prompt": 7, "chosen": GOOD, "rejected": BAD}, "prompt: expected", id="int"),
        pytest.param({"prompt": ASKED, "rejected": BAD}, "chosen: missing; give", id="no chosen"),
        pytest.param({"prompt": ASKED, "chosen": [], "rejected": BAD}, "chosen: does", id="empty"),
        pytest.param(
            {"prompt": ASKED, "chosen": ["a", "b"], "rejected": BAD},
            r"chosen: expected text or messages, got \['a', 'b'\]; give a text or",
            id="list of texts",
        ),
        pytest.param(
            {"prompt": ASKED, "chosen": [user()], "rejected": BAD},
            "chosen: does not end with a text of the assistant; give the response there",
            id="no response",
        ),
        pytest.param(
            {"prompt": ASKED, "chosen": [said("Hm."), said(GOOD)], "rejected": said(BAD)},
            "chosen: messages: a conversation ends where a response is due",
            id="two responses",
        ),
        pytest.param(
            {"chosen": [user(), said(GOOD)], "rejected": [user("Why?"), said(BAD)]},
            "rejected: answers another conversation than chosen; pair them anew",
            id="different questions",
        ),
        pytest.param(
            {"prompt": "Why?", "chosen": [user(), said(GOOD)], "rejected": [user(), said(BAD)]},
            "prompt: is not part of what the answers repeat; make them agree",
            id="another prompt",
        ),
        pytest.param(
            {"prompt": [user(), said("Hm.")], "chosen": GOOD, "rejected": BAD},
            "prompt: messages: a conversation ends where a response is due",
            id="prompt already answered",
        ),
        pytest.param(
            {"prompt": [{"role": "human", "content": ASKED}], "chosen": GOOD, "rejected": BAD},
            r"prompt: messages\[0\]\.role: 'human' is not one of system, user, assistant; mend it",
            id="foreign role",
        ),
    ],
)
def test_what_is_no_preference_names_record_field_and_fix(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(CorpusError, match=rf"^f\.jsonl:7: {message}"):
        read_preference(record_of(**fields), prompt="prompt")


@pytest.mark.parametrize("read", [read_conversation, read_answer])
def test_a_missing_field_is_named(read: Callable[[Record, str], object]) -> None:
    with pytest.raises(CorpusError, match=r"^f\.jsonl:7: turn: missing; give a text or a list"):
        read(record_of(prompt=ASKED), "turn")


def test_an_id_is_the_first_there_is_or_the_place() -> None:
    assert read_id(record_of(b=7, c="x"), "test", "a", "b", "c") == "7"
    assert read_id(record_of(a=None), "test", "a") == "test:7"
    assert read_id(Record("f", 7, {}, name="q9"), "test", "a") == "q9"
    with pytest.raises(CorpusError, match="a: expected text or a whole number, got True; mend it"):
        read_id(record_of(a=True), "test", "a")
