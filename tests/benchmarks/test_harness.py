"""The harness's model against a real policy server and a float32 forward of the same weights."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

from benchmarks.errors import BenchmarkError
from benchmarks.harness.model import PolicyLM
from corpora.conversation import Conversation
from foundation.process import free_port
from foundation.settings import SettingsError
from policy.client import AsyncPolicyClient
from policy.errors import PolicyServerUnreachable
from tests.policy.tiny import MAX_LENGTH, TEXT, RunningPolicy, TinyPolicy, TrainerView

pytestmark = pytest.mark.integration

BEGIN = "<|begin|>"
TASK_VERSION = 3
QUESTIONS = [f"What helps a stuffy nose on day {day}?" for day in range(6)]
CHOICES = ["rest", "antibiotics", "saline rinses"]

OpenLM = Callable[..., PolicyLM]


@pytest.fixture(scope="module")
def served(policy_server: RunningPolicy) -> Iterator[RunningPolicy]:
    """The server with the adapter ``r1``."""

    async def change(*, load: bool) -> None:
        async with AsyncPolicyClient(policy_server.url) as client:
            if load:
                await client.load_adapter("r1", policy_server.adapters["r1"])
            else:
                await client.unload_adapter("r1")

    asyncio.run(change(load=True))
    yield policy_server
    asyncio.run(change(load=False))


@pytest.fixture(scope="module")
def view(tiny_policy: TinyPolicy) -> TrainerView:
    return TrainerView(tiny_policy)


@pytest.fixture(scope="module")
def encode(tiny_policy: TinyPolicy) -> Callable[[str], tuple[int, ...]]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy.model)
    return lambda text: tuple(tokenizer.encode(text, add_special_tokens=False))


@pytest.fixture
def open_lm(served: RunningPolicy) -> Iterator[OpenLM]:
    opened: list[PolicyLM] = []

    def open_(**arguments: Any) -> PolicyLM:
        opened.append(PolicyLM(**{"base_url": served.url, "prefix_token": BEGIN, **arguments}))
        return opened[-1]

    yield open_
    for lm in opened:
        lm.close()


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, 0, ("task", i, 1)) for i, each in enumerate(arguments)]


@pytest.mark.parametrize(("version", "adapter"), [("base", None), ("r1", "r1")])
def test_log_likelihoods_are_those_of_a_float32_forward(
    version: str,
    adapter: str | None,
    open_lm: OpenLM,
    view: TrainerView,
    encode: Callable[[str], tuple[int, ...]],
) -> None:
    pairs = [(question, f" {choice}") for question in QUESTIONS for choice in CHOICES]
    answers = open_lm(model=version, num_concurrent=5).loglikelihood(
        requests("loglikelihood", *pairs), disable_tqdm=True
    )
    for (context, continuation), (logprob, _) in zip(pairs, answers, strict=True):
        head = encode(context)
        tail = encode(context + continuation)[len(head) :]
        expected = sum(view.logprobs(head, tail, adapter=adapter))
        assert logprob == pytest.approx(expected, abs=1e-3)


def test_an_empty_context_is_the_prefix_token(
    open_lm: OpenLM, view: TrainerView, encode: Callable[[str], tuple[int, ...]]
) -> None:
    [(logprob, _)] = open_lm().loglikelihood(requests("loglikelihood", ("", "rest")), True)
    expected = sum(view.logprobs(encode(BEGIN), encode("rest"), adapter=None))
    assert logprob == pytest.approx(expected, abs=1e-3)


def test_an_empty_context_needs_a_prefix_token_where_the_tokenizer_has_none(
    open_lm: OpenLM,
) -> None:
    lm = open_lm(prefix_token=None)
    with pytest.raises(BenchmarkError, match="prefix_token: a context is empty"):
        lm.loglikelihood(requests("loglikelihood", ("", "rest")), True)


def test_what_the_policy_would_say_is_greedy_and_nothing_else(
    open_lm: OpenLM, encode: Callable[[str], tuple[int, ...]]
) -> None:
    lm = open_lm()
    contexts = [
        text[:length] for text in TEXT for length in range(5, len(text)) if text[length - 1] != " "
    ]
    said = lm.generate_until(
        requests("generate_until", *((each, {"max_gen_toks": 1}) for each in contexts)), True
    )
    plain = [
        (context, word)
        for context, word in zip(contexts, said, strict=True)
        if word and encode(context + word)[:-1] == encode(context) and "\ufffd" not in word
    ]
    assert len(plain) > 10
    others = [(context, word + " antibiotics") for context, word in plain]
    greedy = lm.loglikelihood(requests("loglikelihood", *plain), True)
    not_greedy = lm.loglikelihood(requests("loglikelihood", *others), True)
    assert all(is_greedy for _, is_greedy in greedy)
    assert not any(is_greedy for _, is_greedy in not_greedy)


@pytest.mark.parametrize("repeats", [pytest.param(1, id="short"), pytest.param(12, id="long")])
def test_a_text_is_scored_whole_every_token_once(
    repeats: int, open_lm: OpenLM, view: TrainerView, encode: Callable[[str], tuple[int, ...]]
) -> None:
    text = " ".join(TEXT[:1] * repeats)
    [total] = open_lm().loglikelihood_rolling(requests("loglikelihood_rolling", (text,)), True)
    ids = encode(text)
    most = MAX_LENGTH - 2  # the server generates one token more, and the prefix takes one
    expected = sum(view.logprobs(encode(BEGIN), ids[:most], adapter=None))
    if len(ids) > most:
        rest = ids[most:]
        assert len(rest) < most
        expected += sum(view.logprobs(ids[-most - 1 : most], rest, adapter=None))
    assert total == pytest.approx(expected, abs=1e-2)


def test_an_answer_ends_before_the_stop_string(open_lm: OpenLM) -> None:
    lm = open_lm()
    [whole] = lm.generate_until(
        requests("generate_until", (QUESTIONS[0], {"until": [], "max_gen_toks": 24})), True
    )
    stop = next(letter for letter in whole[8:] if letter.isascii() and letter not in whole[:8])
    [cut] = lm.generate_until(
        requests("generate_until", (QUESTIONS[0], {"until": [stop], "max_gen_toks": 24})), True
    )
    assert cut == whole[: whole.index(stop)]


def test_repeats_of_a_sampled_question_differ(open_lm: OpenLM) -> None:
    settings = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12, "until": []}
    answers = open_lm().generate_until(
        requests("generate_until", *[(QUESTIONS[0], settings)] * 4), True
    )
    assert len(set(answers)) == 4


def test_a_long_context_loses_its_beginning_and_is_counted(
    open_lm: OpenLM, view: TrainerView, encode: Callable[[str], tuple[int, ...]]
) -> None:
    context = " ".join(TEXT * 4)
    asked = requests("loglikelihood", (context, " rest"), (QUESTIONS[0], " rest"))
    lm = open_lm()
    (logprob, _), _ = lm.loglikelihood(asked, True)
    head, whole = encode(context), encode(context + " rest")
    tail = whole[len(head) :]
    seen = whole[-(MAX_LENGTH - 1) : -len(tail)]
    assert logprob == pytest.approx(sum(view.logprobs(seen, tail, adapter=None)), abs=1e-3)
    assert lm.get_model_info()["truncated_contexts"] == 1
    with pytest.raises(BenchmarkError, match="on_overflow: a context of"):
        open_lm(on_overflow="error").loglikelihood(asked, True)


def test_a_conversation_is_rendered_in_the_deployed_template(
    open_lm: OpenLM, view: TrainerView
) -> None:
    lm = open_lm()
    message = {"role": "user", "content": QUESTIONS[0]}
    prompt = lm.apply_chat_template([message])
    assert prompt == f"<|begin|><|user|>{QUESTIONS[0]}<|end|><|assistant|>"
    assert prompt.token_ids == view.prompt_token_ids(Conversation.ask(QUESTIONS[0]))
    begun = lm.apply_chat_template(
        [message, {"role": "assistant", "content": "Well,"}], add_generation_prompt=False
    )
    assert begun.endswith("Well,")


def write_task(folder: Path, name: str, documents: list[dict[str, Any]], settings: str) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(each) + "\n" for each in documents), encoding="utf-8")
    (folder / f"{name}.yaml").write_text(
        f"""task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
  cache_dir: {folder / "cache"}
test_split: test
doc_to_text: "{{{{question}}}}"
{settings}""",
        encoding="utf-8",
    )


MULTIPLE_CHOICE = f"""output_type: multiple_choice
metadata: {{version: {TASK_VERSION}}}
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""

GENERATE = """output_type: generate_until
doc_to_target: answer
generation_kwargs: {until: [], max_gen_toks: 6}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def tasks(tmp_path: Path, view: TrainerView, encode: Callable[[str], tuple[int, ...]]) -> Path:
    """A folder with the task ``choose``, of which ``r1`` gets 5 of 6 by construction."""

    def likelihood(question: str, choice: str) -> float:
        head = encode(question)
        tail = encode(f"{question} {choice}")[len(head) :]
        return sum(view.logprobs(head, tail, adapter="r1"))

    best = []
    for question in QUESTIONS:
        scores = [likelihood(question, choice) for choice in CHOICES]
        best.append(scores.index(max(scores)))
    best[0] = (best[0] + 1) % 3
    documents = [
        {"question": question, "choices": CHOICES, "answer": answer}
        for question, answer in zip(QUESTIONS, best, strict=True)
    ]
    write_task(tmp_path, "choose", documents, MULTIPLE_CHOICE)
    return tmp_path


def test_the_harness_measures_a_served_policy(open_lm: OpenLM, tasks: Path) -> None:
    asked = requests("generate_until", *((each, {"max_gen_toks": 6}) for each in QUESTIONS))
    lm = open_lm(model="r1")
    said = lm.generate_until(asked, True)
    answers = [*said[:3], "no", "no", "no"]
    documents = [
        {"question": question, "answer": answer}
        for question, answer in zip(QUESTIONS, answers, strict=True)
    ]
    write_task(tasks, "say", documents, GENERATE)
    results = lm_eval.simple_evaluate(
        model=lm,
        tasks=["choose", "say"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    assert results["results"]["choose"]["acc,none"] == pytest.approx(5 / 6)
    assert results["results"]["say"]["exact_match,none"] == 0.5
    assert results["config"]["policy_version"] == "r1"


def run_command(*flags: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the harness sets up logging for all of it."""
    program = "import sys; from benchmarks.harness.command import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *flags], capture_output=True, text=True, check=False
    )


def test_the_command_prints_the_harnesss_table(served: RunningPolicy, tasks: Path) -> None:
    flags = ["--tasks", "choose", "--include_path", str(tasks)]
    result = run_command("--server", served.url, "--policy", "r1", *flags)
    assert result.returncode == 0, result.stderr
    [row] = [line for line in result.stdout.splitlines() if line.startswith("|choose|")]
    assert [cell.strip() for cell in row.split("|")][2] == str(TASK_VERSION)
    assert "0.8333" in row


def test_an_unknown_task_is_named() -> None:
    result = run_command("--server", "http://127.0.0.1:1", "--tasks", "nosuch")
    assert "BenchmarkError: --tasks: nosuch: no such task" in result.stderr


def test_a_version_that_is_not_served_is_named(served: RunningPolicy) -> None:
    with pytest.raises(BenchmarkError, match=r"'r7' is not served .* served: base, r1"):
        PolicyLM(base_url=served.url, model="r7")


def test_an_unreachable_server_is_named_at_once() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(PolicyServerUnreachable, match=url):
        PolicyLM(base_url=url)


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(SettingsError, match="--model_args: base_ulr: unknown key"):
        PolicyLM(base_url="http://127.0.0.1:1", base_ulr="http://127.0.0.1:1")


def test_a_template_cannot_be_chosen(open_lm: OpenLM) -> None:
    with pytest.raises(BenchmarkError, match="the server has one template"):
        open_lm().chat_template("tool_use")
