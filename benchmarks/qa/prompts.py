"""A question as the conversation that a policy answers.

The chat form is one user turn, since not every template has room for a system message. The
instruction form is Alpaca's, on which medAlpaca's models were trained
(``medalpaca/prompt_templates/medalpaca.json`` in kbressem/medAlpaca): the whole prompt is the text
of the turn, so the server needs a chat template that passes texts through, such as
``{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}``.

Pure.
"""

from __future__ import annotations

from typing import Literal

from corpora.conversation import Conversation
from corpora.questions.choice import ChoiceQuestion

Form = Literal["chat", "instruction"]
Wanted = Literal["reasoning", "letter", "text"]
"""What the response is to be: steps and a letter at the end, a letter, or an option's text."""

LEAD = "The answer is ("
"""What a response begins with whose next sign is a letter."""

_TASKS: dict[Wanted, str] = {
    "reasoning": (
        "Reason step by step, then end with one line: The answer is (X). X is the letter of the"
        " option you choose."
    ),
    "letter": "Answer with the letter of the one option that fits best.",
    "text": "Answer in as few words as possible.",
}

_INSTRUCTION = """\
Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
{task}

### Input:
{question}

### Response:
"""


def prompt(question: ChoiceQuestion, *, form: Form, wanted: Wanted) -> Conversation:
    """The conversation that asks a question; a text is wanted without the options in sight."""
    asked, task = body(question, has_options=wanted != "text"), _TASKS[wanted]
    if form == "instruction":
        return Conversation.ask(_INSTRUCTION.format(task=task, question=asked))
    return Conversation.ask(f"{asked}\n\n{task}")


def body(question: ChoiceQuestion, *, has_options: bool) -> str:
    """Context, question and options, with empty lines between them."""
    context = "\n".join(question.context)
    options = "\n".join(f"({letter}) {text}" for letter, text in question.options.items())
    parts = (
        f"Abstract: {context}" if context else "",
        f"Question: {question.question.strip()}",
        options if has_options else "",
    )
    return "\n\n".join(filter(None, parts))
