"""``medpref replay``: score again what an audit log holds, and compare.

A group is scored again whole or not at all, since a reward may depend on its rivals. What cannot
be scored again is counted and never taken for equal. The logs are read twice, so that they need
not fit in memory: once to see what they hold, once for each model that they name.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError
from rich.console import Console
from rich.table import Table

from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from medpref.commands.servers import ServerSettings, meet
from reward_server.audit_record import AuditedGroup, AuditedInput, AuditRecord, content_hashes
from reward_server.bulk_records import read_items
from reward_server.client import ClientOptions, RewardClient
from reward_server.errors import RewardServerError, UnknownModel
from reward_server.protocol import CandidateResult, GroupResult, ModelInfo, OnOverflow, ScoreGroup

SHOWN = 10
"""Differences in the table."""

Line = Literal["scored_requests", "refused_requests", "rendered_requests", "torn_lines"]
"""What a line of a log is about: a request that got rewards; one that was refused and has none;
one of a foreign wire, with inputs that the native wire cannot express; half a record."""


class ReplaySettings(ServerSettings):
    """The flags."""

    inputs: Path | None = None
    """Where to find texts that a log holds only the hashes of: a file of what was scored, in any
    form that ``medpref score`` reads."""

    tolerance: float = Field(default=0.0, ge=0)
    """How far rewards may differ and still be equal. The default asks for a server that is
    deterministic."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One group of a log."""

    request_id: str
    place: int
    """Position in its request."""

    group: AuditedGroup


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """How some requests of a log were scored."""

    model: str
    on_overflow: OnOverflow


@dataclass(slots=True)
class Survey:
    """What the logs hold."""

    lines: Counter[Line] = field(default_factory=Counter)
    groups: Counter[Target] = field(default_factory=Counter)
    """Those that can be scored again."""

    fingerprints: dict[Target, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One candidate, then and now: its reward, or the code of its error."""

    request_id: str
    group: int
    candidate: int
    logged: float | str
    now: float | str

    @property
    def size(self) -> float:
        """Between the rewards; infinite where one of them is none."""
        if isinstance(self.logged, str) or isinstance(self.now, str):
            return 0.0 if self.logged == self.now else math.inf
        return abs(self.now - self.logged)


@dataclass(slots=True)
class Tally:
    """What came of a replay, in candidates."""

    tolerance: float
    equal: int = 0
    different: int = 0
    missing_text: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """By code of what the server said in place of results."""

    largest: list[Difference] = field(default_factory=list)

    @property
    def compared(self) -> int:
        return self.equal + self.different

    @property
    def is_equal(self) -> bool:
        """Whether there was something to compare, and all of it was found equal."""
        return self.equal > 0 and not (self.different or self.missing_text or self.errors)

    def add(self, logged: Logged, outcome: GroupResult | RewardServerError) -> None:
        candidates = logged.group.candidates
        if isinstance(outcome, RewardServerError):
            self.errors[outcome.code] += len(candidates)
            return
        pairs = [
            Difference(logged.request_id, logged.place, index, _value(then), _value(now))
            for index, (then, now) in enumerate(zip(candidates, outcome.results, strict=True))
        ]
        different = [pair for pair in pairs if pair.size > self.tolerance]
        self.equal += len(pairs) - len(different)
        self.different += len(different)
        self.largest = heapq.nlargest(SHOWN, [*self.largest, *different], key=lambda d: d.size)


class Texts:
    """Finds the text of a logged group, in the log itself or among other groups."""

    def __init__(self, groups: Iterable[ScoreGroup] = ()) -> None:
        self._places = {
            content: (group, index)
            for group in groups
            for index, content in enumerate(content_hashes(group))
        }

    def find(self, audited: AuditedGroup) -> ScoreGroup | None:
        """The group as it was scored; ``None`` if any part of it is not known."""
        wanted = [candidate.content for candidate in audited.candidates]
        # Text of the log is checked too: what was altered since is not what was scored.
        possible = (audited.sent, self._rebuild(wanted))
        return next(
            (group for group in possible if group and content_hashes(group) == wanted), None
        )

    def _rebuild(self, wanted: Sequence[str]) -> ScoreGroup | None:
        places = [self._places[content] for content in wanted if content in self._places]
        if not places:
            return None
        candidates = tuple(group.candidates[index] for group, index in places)
        return places[0][0].model_copy(update={"candidates": candidates})


def main(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    settings = read_settings(ReplaySettings, given)
    base = settings.client_options()
    texts = Texts(read_groups(settings.inputs))
    survey = take_survey(given.logs)
    tally = Tally(settings.tolerance)
    with Reporter() as reporter:
        for target, total in sorted(survey.groups.items()):
            options = replace(base, model=target.model, on_overflow=target.on_overflow)
            served = find(settings.server, options)
            _tell_model(target.model, survey.fingerprints[target], served, reporter)
            groups = _watched(groups_of(given.logs, target), total, reporter)
            if served is None:
                tally.errors[UnknownModel.code] += sum(len(g.group.candidates) for g in groups)
            else:
                pinned = replace(options, expected_fingerprint=served.fingerprint)
                replay(groups, RewardClient(settings.server, pinned), texts, tally)
        _tell(survey, tally, reporter)
    if tally.largest:
        Console().print(_table(tally.largest))
    return 0 if tally.is_equal else 1


def take_survey(logs: Iterable[Path]) -> Survey:
    """Reads the logs through.

    Raises:
        UserError: if one of them is no audit log or cannot be read.
    """
    survey = Survey()
    for record in chain.from_iterable(map(read_records, logs)):
        line = classify(record)
        survey.lines[line] += 1
        if record and line == "scored_requests":
            target = _target(record)
            survey.groups[target] += len(record.groups)
            fingerprints = survey.fingerprints.setdefault(target, set())
            fingerprints.add(record.fingerprint or "unknown")
    return survey


def find(url: str, options: ClientOptions) -> ModelInfo | None:
    """As :func:`meet`, but ``None`` where no model of that name is served."""
    try:
        return meet(url, options)
    except UnknownModel:
        return None


def replay(logged: Iterable[Logged], client: RewardClient, texts: Texts, tally: Tally) -> None:
    """Scores groups of one target again, and counts what comes of it.

    Args:
        logged: the groups, read a little ahead of the answers.
        client: of the target's model; closed at the end.
        texts: where to find what was scored.
        tally: counts.

    Raises:
        RewardServerError: if the server fails, or another model is served than the client expects.
        RewardServerUnreachable: if it does not answer.
    """
    asked: deque[Logged] = deque()

    def known() -> Iterator[ScoreGroup]:
        for item in logged:
            group = texts.find(item.group)
            if group is None:
                tally.missing_text += len(item.group.candidates)
            else:
                asked.append(item)
                yield group

    with client, closing(client.score_stream(known(), on_refused="keep")) as answers:
        for answer in answers:
            tally.add(asked.popleft(), answer.outcome)


def read_records(path: Path) -> Iterator[AuditRecord | None]:
    """The records of an audit log, in order; ``None`` for a line that a crash cut off.

    Raises:
        UserError: naming the line that is none of an audit log, or if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse(line, where=f"{path}:{number}")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give an audit log") from None


def read_groups(path: Path | None) -> Iterator[ScoreGroup]:
    """The groups of a file that ``medpref score`` reads; none without one.

    Raises:
        UserError: naming the file that cannot be read, or the first record that does not fit.
    """
    return (item.group for item in read_items(path)) if path else iter(())


def classify(record: AuditRecord | None) -> Line:
    if record is None:
        return "torn_lines"
    if record.code is not None:
        return "refused_requests"
    return "rendered_requests" if record.inputs else "scored_requests"


def groups_of(logs: Iterable[Path], target: Target) -> Iterator[Logged]:
    """The groups of the logs that were scored that way."""
    for record in chain.from_iterable(map(read_records, logs)):
        if record and classify(record) == "scored_requests" and _target(record) == target:
            for place, group in enumerate(record.groups):
                yield Logged(record.request_id, place, group)


def _watched(groups: Iterable[Logged], total: int, reporter: Reporter) -> Iterator[Logged]:
    for done, group in enumerate(groups, start=1):
        yield group
        reporter.progress("replaying", done, total)


def _parse(line: bytes, *, where: str) -> AuditRecord | None:
    try:
        return AuditRecord.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
    # No beginning of a record is JSON; other JSON was never written by a reward server.
    if first["type"] == "json_invalid":
        return None
    place = ".".join(str(part) for part in first["loc"]) or "record"
    # Not the value: it may be a patient's words.
    raise UserError(f"{where}: {place}: {first['msg']}; give an audit log")


def _target(record: AuditRecord) -> Target:
    return Target(record.model, record.on_overflow)


def _value(result: AuditedInput | CandidateResult) -> float | str:
    if result.reward is not None:
        return result.reward
    error = result.error if isinstance(result.error, str | None) else result.error.code
    return error or "no result"


def _tell_model(
    name: str, fingerprints: set[str], model: ModelInfo | None, reporter: Reporter
) -> None:
    logged, served = sorted(fingerprints), model.fingerprint if model else None
    is_same = logged == [served]
    sentence = (
        f"{name}: the same reward model, fingerprint {served}"
        if is_same
        else f"{name}: another reward model, {', '.join(logged)} then and {served or 'none'} now"
    )
    if model and not model.is_deterministic:
        sentence += "; not served as deterministic: last digits move with what shares a batch"
    fields = {"model": name, "logged": logged, "served": served, "is_same": is_same}
    reporter.event("fingerprints.compared", sentence, **fields)


def _tell(survey: Survey, tally: Tally, reporter: Reporter) -> None:
    fields = {
        **{name: survey.lines[name] for name in get_args(Line)},
        "compared": tally.compared,
        "equal": tally.equal,
        "different": tally.different,
        "missing_text": tally.missing_text,
        "errors": dict(tally.errors),
        "tolerance": tally.tolerance,
    }
    rows = [f"{name.replace('_', ' '):<18} {value or 0}" for name, value in fields.items()]
    reporter.event("audit.replayed", "\n        ".join(rows), **fields)


def _table(differences: Sequence[Difference]) -> Table:
    table = Table("request", "group", "candidate", "logged", "now", "difference", box=None)
    for item in differences:
        size = "–" if math.isinf(item.size) else f"{item.size:.3g}"
        place = (item.request_id, str(item.group), str(item.candidate))
        table.add_row(*place, str(item.logged), str(item.now), size)
    return table


def _parser() -> Parser:
    parser = Parser(
        "medpref replay",
        "Score again what an audit log holds, and compare. Exit code 0 if everything was compared\n"
        "and is equal, else 1.",
        examples="""  medpref replay audit.jsonl --server http://127.0.0.1:8100
  medpref replay audit.1.jsonl audit.jsonl --server https://rewards.example \\
      --inputs groups.jsonl --api-key-env REWARD_KEY --tolerance 1e-4""",
    )
    parser.add_argument("logs", type=Path, nargs="+", metavar="AUDIT.jsonl", help="audit logs")
    add_settings(parser, ReplaySettings)
    return parser
