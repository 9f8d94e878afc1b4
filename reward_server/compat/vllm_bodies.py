"""Bodies of vLLM's pooling endpoints: what its clients send, and what they read.

Fields and limits are those of vLLM 0.32.0 (``entrypoints/pooling/*/protocol.py``), less what a
reward model has no use for. Where vLLM would change the reward in silence, the schema refuses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from reward_server.compat.base import (
    DEFAULT,
    Answer,
    Classified,
    Foreign,
    Input,
    Texts,
    Turns,
    texts_of,
)
from reward_server.errors import InvalidRequest
from reward_server.protocol import Lane, ModelInfo, OnOverflow, Text

INT64 = 2**63


class VllmRequest(Foreign):
    """What all of these requests may say."""

    model: Text | None = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    """-1 cuts the beginning of what is longer than the model reads. A number is a limit: longer
    inputs are refused."""

    truncation_side: Literal["left", "right"] | None = None
    """``right`` is refused beside a truncation: it would cut the token at which is scored."""

    padding: Literal["do_not_pad"] | None = None
    request_id: Text | None = None
    priority: int = Field(default=0, ge=-INT64, lt=INT64)
    """Above 0, the request waits for interactive work."""

    use_activation: bool | None = None
    activation: bool | None = None
    """What ``use_activation`` was called before vLLM 0.11.2, and verl still calls it."""

    @model_validator(mode="before")
    @classmethod
    def _has_no_removed_field(cls, body: Any) -> Any:
        if isinstance(body, dict) and "normalize" in body:
            raise ValueError("normalize: was removed from vLLM; give use_activation")
        return body

    @model_validator(mode="after")
    def _keeps_the_end(self) -> Self:
        if self.truncate_prompt_tokens is not None and self.truncation_side == "right":
            raise ValueError(
                "truncation_side: right would cut the end, where the reward is read; give left"
            )
        return self

    @property
    def name(self) -> str:
        """The model to score with."""
        return self.model or DEFAULT

    @property
    def is_squashed(self) -> bool:
        """Whether the answer has probabilities in place of logits."""
        asked = self.activation if self.use_activation is None else self.use_activation
        return asked is not False

    @property
    def lane(self) -> Lane:
        """Which work it waits with; vLLM serves lower priorities first."""
        return "bulk" if self.priority > 0 else "interactive"

    def overflow(self, info: ModelInfo) -> OnOverflow:
        """What to do with an input above the model's length.

        Raises:
            InvalidRequest: if it asks for more tokens than the model reads, as with vLLM.
        """
        wanted, limit = self.truncate_prompt_tokens, info.max_length
        if wanted is not None and limit is not None and wanted > limit:
            raise InvalidRequest(f"truncate_prompt_tokens: {wanted}, limit {limit}; give -1")
        return "truncate" if wanted in (-1, limit) and wanted is not None else "error"


class VllmCompletionRequest(VllmRequest):
    """Inputs that the client rendered."""

    input: Input
    add_special_tokens: bool = True


class VllmChatRequest(VllmRequest):
    """A conversation whose last message is scored, rendered by the served chat template."""

    messages: Turns
    add_generation_prompt: Literal[False] = False
    continue_final_message: Literal[False] = False
    chat_template: None = None
    chat_template_kwargs: Annotated[dict[str, Any], Field(max_length=0)] | None = None


class PoolingOptions(Foreign):
    """What ``/pooling`` may say besides."""

    task: Literal["classify"] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    embed_dtype: Literal["float32"] = "float32"
    endianness: Literal["native", "big", "little"] = "native"
    dimensions: None = None


class VllmPoolingCompletionRequest(VllmCompletionRequest, PoolingOptions):
    """Inputs that the client rendered, for ``/pooling``."""


class VllmPoolingChatRequest(VllmChatRequest, PoolingOptions):
    """A conversation, for ``/pooling``."""


def form_of(body: object) -> str | None:
    """Which of two forms a body has; with both fields it is a conversation, as with vLLM."""
    if not isinstance(body, dict):
        return None
    return "chat-form" if "messages" in body else "completion-form"


_FORMS = Discriminator(
    form_of, custom_error_type="form", custom_error_message="give an object with input or messages"
)
ClassifyBody = Annotated[
    Annotated[VllmCompletionRequest, Tag("completion-form")]
    | Annotated[VllmChatRequest, Tag("chat-form")],
    _FORMS,
]
PoolingBody = Annotated[
    Annotated[VllmPoolingCompletionRequest, Tag("completion-form")]
    | Annotated[VllmPoolingChatRequest, Tag("chat-form")],
    _FORMS,
]


class VllmPairs(VllmRequest, ABC):
    """What requests about pairs of texts may say (``ScoringRequestMixin``)."""

    max_tokens_per_query: Literal[0] = 0
    max_tokens_per_doc: Literal[0] = 0

    @property
    @abstractmethod
    def sides(self) -> tuple[list[str], list[str]]:
        """First and second texts."""


class VllmTextPairs(VllmPairs):
    """Pairs as ``text_1`` and ``text_2``."""

    text_1: Texts
    text_2: Texts

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        return texts_of(self.text_1), texts_of(self.text_2)


class VllmDataPairs(VllmPairs):
    """Pairs as ``data_1`` and ``data_2``."""

    data_1: Texts
    data_2: Texts

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        return texts_of(self.data_1), texts_of(self.data_2)


class VllmDocumentPairs(VllmPairs):
    """Pairs as ``queries`` and ``documents``."""

    queries: Texts
    documents: Texts

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        return texts_of(self.queries), texts_of(self.documents)


class VllmItemPairs(VllmPairs):
    """Pairs as ``queries`` and ``items``."""

    queries: Texts
    items: Texts

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        return texts_of(self.queries), texts_of(self.items)


def pairs_form_of(body: object) -> str | None:
    """Under which names a body gives its pairs."""
    if not isinstance(body, dict):
        return None
    if "queries" in body:
        is_items = "items" in body and "documents" not in body
        return "items-form" if is_items else "documents-form"
    return "data-form" if "data_1" in body else "text-form"


ScoreBody = Annotated[
    Annotated[VllmTextPairs, Tag("text-form")]
    | Annotated[VllmDataPairs, Tag("data-form")]
    | Annotated[VllmDocumentPairs, Tag("documents-form")]
    | Annotated[VllmItemPairs, Tag("items-form")],
    Discriminator(
        pairs_form_of,
        custom_error_type="form",
        custom_error_message="give an object with text_1 and text_2",
    ),
]


class VllmRerankRequest(VllmPairs):
    """A query and the documents to rank by it."""

    query: Text
    documents: Texts
    top_n: int = Field(default=0, ge=0)
    """How many to answer with; 0 is all."""

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        return [self.query], texts_of(self.documents)


class VllmUsage(Answer):
    """Tokens of the inputs, before any cutting by the caller."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None
    completion_tokens_details: None = None


class VllmClasses(Answer):
    """Answer of ``/classify``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classified]
    usage: VllmUsage


class VllmPooled(Answer):
    """The numbers of one input."""

    index: int
    object: Literal["pooling"] = "pooling"
    data: list[float] | str
    """Numbers, or their float32 bytes in base64."""


class VllmPooling(Answer):
    """Answer of ``/pooling``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[VllmPooled]
    usage: VllmUsage


class VllmScore(Answer):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class VllmScores(Answer):
    """Answer of ``/score``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[VllmScore]
    usage: VllmUsage


class VllmDocument(Answer):
    """A document that was ranked."""

    text: str
    multi_modal: None = None


class VllmRank(Answer):
    """The place of one document."""

    index: int
    document: VllmDocument
    relevance_score: float


class VllmRerankUsage(Answer):
    """Tokens of all pairs."""

    prompt_tokens: int
    total_tokens: int


class VllmRanking(Answer):
    """Answer of ``/rerank``: the best first."""

    id: str
    model: str
    usage: VllmRerankUsage
    results: list[VllmRank]
