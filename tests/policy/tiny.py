"""A tiny random Llama with its own tokenizer, real LoRA adapters, and what a trainer knows of them.

Everything is made here: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpora.conversation import Conversation
from foundation.process import free_port
from policy.config import PolicyServerConfig
from policy.deploy import Canary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT = [
    "Saline rinses help a stuffy nose, and so does sleeping with the head raised.",
    "Drink enough, rest, and see a doctor if the fever lasts for more than three days.",
    "A cold passes by itself; antibiotics do not shorten it.",
]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

LORA_RANK = 8
MAX_LENGTH = 256


@dataclass(frozen=True, slots=True)
class TinyPolicy:
    """A base model folder, and adapter folders whose weights differ from it and from each other."""

    model: Path
    adapters: dict[str, Path]


@dataclass(frozen=True, slots=True)
class RunningPolicy:
    """A server that answers, in float32, with no adapter loaded; and what it could load."""

    url: str
    model: Path
    adapters: dict[str, Path]


class TrainerView:
    """A float32 forward of transformers and PEFT: what the server has to agree with."""

    def __init__(self, policy: TinyPolicy) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(policy.model)
        base = AutoModelForCausalLM.from_pretrained(policy.model)
        first, *others = policy.adapters.items()
        self._model = PeftModel.from_pretrained(base, first[1], adapter_name=first[0]).eval()
        for name, path in others:
            self._model.load_adapter(path, adapter_name=name)

    @property
    def end_of_turn(self) -> int:
        return int(self._tokenizer.eos_token_id)

    def prompt_token_ids(self, conversation: Conversation) -> tuple[int, ...]:
        rendered = self._tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in conversation.messages],
            add_generation_prompt=True,
            tokenize=False,
        )
        return tuple(self._tokenizer.encode(rendered, add_special_tokens=False))

    def logprobs(
        self, prompt: Sequence[int], response: Sequence[int], *, adapter: str | None
    ) -> tuple[float, ...]:
        """One natural logarithm per response token."""
        import torch

        ids = torch.tensor([[*prompt, *response]])
        with torch.no_grad(), self._using(adapter):
            logprobs = self._model(ids).logits[0].log_softmax(-1)
        start = len(prompt) - 1
        return tuple(float(logprobs[start + i, token]) for i, token in enumerate(response))

    def canaries(self, adapter: str) -> list[Canary]:
        """Three questions with the text of another as response."""
        return [
            Canary(
                prompt,
                response,
                self.logprobs(prompt, response, adapter=adapter),
                self.logprobs(prompt, response, adapter=None),
            )
            for question, answer in zip(TEXT, TEXT[::-1], strict=True)
            if (prompt := self.prompt_token_ids(Conversation.ask(question)))
            and (response := tuple(self._tokenizer.encode(answer, add_special_tokens=False)))
        ]

    @contextmanager
    def _using(self, adapter: str | None) -> Iterator[None]:
        if adapter is None:
            with self._model.disable_adapter():
                yield
        else:
            self._model.set_adapter(adapter)
            yield


def make_tiny_policy(folder: Path) -> TinyPolicy:
    """Writes a model and the adapters ``r1`` and ``r2``."""
    model = folder / "base"
    _save_model(model)
    adapters = {name: folder / name for name in ("r1", "r2")}
    for seed, path in enumerate(adapters.values(), start=1):
        _save_adapter(model, path, seed=seed)
    return TinyPolicy(model, adapters)


def server_config(model: Path, log_file: Path, **changes: Any) -> PolicyServerConfig:
    """Settings that suit the tiny policy, on a free port."""
    settings = {
        "model": str(model),
        "port": free_port(),
        "dtype": "float32",
        "max_model_len": MAX_LENGTH,
        "max_num_seqs": 64,
        "log_file": log_file,
    }
    return PolicyServerConfig.model_validate(settings | changes)


def _save_model(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,  # far from uniform: a wrong token or weight shows in its logprob
    )
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]  # transformers has no types
    model.save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    )


def _save_adapter(model: Path, folder: Path, *, seed: int) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model)
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        target_modules="all-linear",
        init_lora_weights=False,  # random B too: the adapter changes the policy
        task_type="CAUSAL_LM",
    )
    get_peft_model(base, config).save_pretrained(folder)
