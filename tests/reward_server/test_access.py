from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import UserError
from reward_server.access import (
    ANONYMOUS,
    Caller,
    Keyring,
    Quotas,
    check_binding,
    credential,
    is_loopback,
    require,
    scope_of,
)
from reward_server.errors import (
    Forbidden,
    LimitExceeded,
    QuotaExceeded,
    ServerStartError,
    Unauthorized,
)
from reward_server.keyfile import (
    PREFIX,
    Key,
    Scope,
    add_key,
    digest,
    new_secret,
    read_keys,
    revoke_key,
)

SCORE: tuple[Scope, ...] = ("score",)
TODAY = date(2026, 6, 1)


def make_key(
    name: str, secret: str, scopes: tuple[Scope, ...] = SCORE, expires: date | None = None
) -> Key:
    return Key(
        name=name, sha256=digest(secret), scopes=scopes, created=date(2026, 1, 1), expires=expires
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file with the keys ``loop`` and ``operator``, whose secrets are their names."""
    path = tmp_path / "keys.json"
    add_key(path, make_key("loop", "loop", expires=date(2026, 7, 1)))
    add_key(path, make_key("operator", "operator", ("admin", "score")))
    return path


@pytest.fixture
def keyring(path: Path) -> Keyring:
    return Keyring.load(path, today=lambda: TODAY)


def test_a_key_file_is_private_and_holds_no_secret(tmp_path: Path) -> None:
    path, secret = tmp_path / "keys.json", new_secret()
    add_key(path, make_key("loop", secret))
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text()
    assert read_keys(path)[0].sha256 == digest(secret)


def test_secrets_are_long_prefixed_and_never_the_same() -> None:
    drawn = {new_secret() for _ in range(100)}
    assert len(drawn) == 100
    assert all(secret.startswith(PREFIX) and len(secret) > 40 for secret in drawn)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o666])
def test_a_key_file_that_is_open_to_others_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(ServerStartError, match=rf"mode {mode:o} .* run `chmod 600 "):
        read_keys(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_a_key_file_may_be_read_by_its_group(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert len(read_keys(path)) == 2


KEY = make_key("loop", "s").model_dump_json()
OTHER = make_key("eval", "s").model_dump_json()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("", "Invalid JSON", id="empty"),
        pytest.param("[]", "Input should be an object", id="list"),
        pytest.param("{}", "keys: Field required", id="no keys"),
        pytest.param(f'{{"keys": [{KEY}, {KEY}]}}', "name 'loop' stands there more", id="name"),
        pytest.param(f'{{"keys": [{KEY}, {OTHER}]}}', "sha256 '043a", id="secret"),
        pytest.param(
            '{"keys": [{"name": "a", "sha256": "mp_oops", "scopes": ["score"], '
            '"created": "2026-01-01"}]}',
            "keys.0.sha256: String should match",
            id="digest",
        ),
    ],
)
def test_a_malformed_key_file_is_one_line_that_quotes_no_value(
    path: Path, content: str, words: str
) -> None:
    path.write_text(content)
    with pytest.raises(ServerStartError) as caught:
        Keyring.load(path)
    message = str(caught.value)
    assert message.startswith(f"keys: {path}: {words}")
    assert "mp_oops" not in message
    assert "\n" not in message


def test_a_missing_key_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ServerStartError, match="no such file; make it with `medpref keys add"):
        Keyring.load(tmp_path / "keys.json")
    with pytest.raises(ServerStartError, match="cannot be read"):
        Keyring.load(tmp_path)


def test_a_name_is_given_once(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"'loop' is in .* already"):
        add_key(path, make_key("loop", "another"))
    assert path.read_bytes() == before


def test_a_change_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="No space left on device"):
        revoke_key(path, "loop")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {"keys.json", "keys.json.lock"}


def test_a_link_to_a_key_file_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    revoke_key(link, "loop")
    assert link.is_symlink()
    assert [key.name for key in read_keys(path)] == ["operator"]


@pytest.mark.parametrize("header", ["Bearer loop", "bearer loop", "Bearer  loop ", "loop"])
def test_a_key_is_known_by_its_secret(keyring: Keyring, header: str) -> None:
    assert keyring.identify(header) == Caller("loop", frozenset({"score"}))


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic loop", "Bearer lööp"])
def test_whoever_shows_no_known_key_is_refused(keyring: Keyring, header: str | None) -> None:
    with pytest.raises(Unauthorized):
        keyring.identify(header)


@given(header=st.text(st.characters(max_codepoint=255)))
def test_no_header_but_a_secret_opens_anything(
    tmp_path_factory: pytest.TempPathFactory, header: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "one_key.json"
    if not path.exists():
        add_key(path, make_key("loop", new_secret()))
    with pytest.raises(Unauthorized):
        Keyring.load(path).identify(header)


def test_a_secret_is_compared_with_every_key(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def compare(given: str, known: str) -> bool:
        compared.append(known)
        return given == known

    monkeypatch.setattr("reward_server.access.hmac.compare_digest", compare)
    assert keyring.identify("Bearer loop").name == "loop"
    assert compared == [digest("loop"), digest("operator")]


def test_a_key_opens_nothing_from_the_day_on_that_it_expires(path: Path) -> None:
    keyring = Keyring.load(path, today=lambda: date(2026, 6, 30))
    assert keyring.identify("loop").name == "loop"
    keyring = Keyring.load(path, today=lambda: date(2026, 7, 1))
    with pytest.raises(Unauthorized, match="'loop' expired on 2026-07-01"):
        keyring.identify("loop")
    assert keyring.identify("operator").name == "operator"


def test_without_a_key_file_everybody_may_do_everything() -> None:
    keyring = Keyring.load(None)
    assert not keyring.has_keys
    assert keyring.identify(None) == keyring.identify("Bearer x") == ANONYMOUS
    assert not keyring.reload_if_changed()
    require(ANONYMOUS, "admin")
    require(ANONYMOUS, "score")


def test_a_changed_key_file_counts_from_the_next_request_on(keyring: Keyring, path: Path) -> None:
    revoke_key(path, "loop")
    with pytest.raises(Unauthorized):
        keyring.identify("loop")
    add_key(path, make_key("new", "new"))
    assert keyring.identify("new").name == "new"
    assert not keyring.reload_if_changed()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda p: p.write_text("{"), lambda p: p.chmod(6)])
def test_a_spoiled_key_file_is_told_once_and_changes_nothing(
    keyring: Keyring, path: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(path)
    with structlog.testing.capture_logs() as logs:
        assert keyring.identify("loop").name == "loop"
        assert keyring.identify("loop").name == "loop"
    assert [log["event"] for log in logs] == ["keys.reload_failed"]
    assert "loop" not in str(logs).replace(str(path), "")


def test_a_mended_key_file_counts_again(keyring: Keyring, path: Path) -> None:
    path.chmod(0o606)
    assert not keyring.reload_if_changed()
    path.chmod(0o600)
    assert keyring.reload_if_changed()


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"authorization": "Bearer a", "x-api-key": "b"}, "Bearer a"),
        ({"x-api-key": "b"}, "b"),
        ({}, None),
    ],
)
def test_either_header_carries_a_key(headers: dict[str, str], shown: str | None) -> None:
    assert credential(headers) == shown


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/health/live", None),
        ("GET", "/health/ready", None),
        ("GET", "/health", None),
        ("HEAD", "/health/live", None),
        ("GET", "/metrics", None),
        ("GET", "/openapi.json", None),
        ("POST", "/metrics", "score"),
        ("POST", "/v1/score", "score"),
        ("GET", "/v1/models", "score"),
        ("POST", "/predict", "score"),
        ("GET", "/nowhere", "score"),
        ("GET", "/healthy", "score"),
        ("GET", "/v1/admin", "admin"),
        ("POST", "/v1/admin/models", "admin"),
        ("GET", "/v1/administrators", "score"),
    ],
)
def test_every_route_has_its_scope(method: str, path: str, scope: Scope | None) -> None:
    assert scope_of(method, path) == scope


def test_a_missing_scope_is_named() -> None:
    caller = Caller("loop", frozenset({"score"}))
    require(caller, "score")
    with pytest.raises(Forbidden, match=r"key 'loop' has scope score; this needs a key with admin"):
        require(caller, "admin")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_without_keys_a_server_may_listen_on_loopback(host: str) -> None:
    assert is_loopback(host)
    check_binding(host, has_keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "localhost.example", "127.1"])
def test_without_keys_a_server_listens_nowhere_else(host: str) -> None:
    check_binding(host, has_keys=True)
    with pytest.raises(ServerStartError) as caught:
        check_binding(host, has_keys=False)
    message = str(caught.value)
    assert message.startswith(f"host: {host!r} ")
    assert "--keys FILE" in message
    assert "medpref keys add" in message
    assert "127.0.0.1" in message


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limited(quota: int, name: str = "loop") -> Caller:
    return Caller(name, frozenset({"score"}), tokens_per_minute=quota)


def test_a_caller_may_use_a_minute_at_once_and_is_told_when_to_come_back(clock: Clock) -> None:
    quotas, caller = Quotas(clock=clock), limited(600)
    quotas.take(caller, 600)
    with pytest.raises(QuotaExceeded, match=r"25 tokens, key 'loop' has 0 of 600 a minute") as full:
        quotas.take(caller, 25)
    assert full.value.retry_after == 3
    clock.now += 2.4
    with pytest.raises(QuotaExceeded):
        quotas.take(caller, 25)
    clock.now += 0.1
    quotas.take(caller, 25)


def test_a_refusal_costs_nothing(clock: Clock) -> None:
    quotas, caller = Quotas(clock=clock), limited(600)
    quotas.take(caller, 500)
    for _ in range(10):
        with pytest.raises(QuotaExceeded):
            quotas.take(caller, 101)
    quotas.take(caller, 100)


def test_what_can_never_fit_is_no_reason_to_come_back() -> None:
    with pytest.raises(LimitExceeded, match="601 tokens, the quota of key 'loop' is 600 a minute"):
        Quotas().take(limited(600), 601)


def test_callers_do_not_share_a_bucket_and_some_have_none(clock: Clock) -> None:
    quotas = Quotas(clock=clock)
    quotas.take(limited(600), 600)
    quotas.take(limited(600, "eval"), 600)
    for _ in range(3):
        quotas.take(ANONYMOUS, 10**9)
    quotas.give_back(ANONYMOUS, 10**9)


def test_tokens_of_a_failed_request_come_back(clock: Clock) -> None:
    quotas, caller = Quotas(clock=clock), limited(600)
    quotas.take(caller, 600)
    quotas.give_back(caller, 600)
    quotas.take(caller, 600)
    clock.now += 60
    quotas.give_back(caller, 600)
    quotas.take(caller, 600)
    with pytest.raises(QuotaExceeded):
        quotas.take(caller, 1)


def test_a_quota_that_is_lowered_counts_at_once(clock: Clock) -> None:
    quotas = Quotas(clock=clock)
    quotas.take(limited(600), 100)
    quotas.take(limited(60), 60)
    with pytest.raises(QuotaExceeded):
        quotas.take(limited(60), 1)


@given(
    quota=st.integers(1, 10_000),
    asked=st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 100)), max_size=40),
)
def test_no_span_of_time_gives_more_than_its_rate_and_a_minute(
    quota: int, asked: list[tuple[int, float]]
) -> None:
    clock = Clock()
    quotas, caller = Quotas(clock=clock), limited(quota)
    taken: list[tuple[float, int]] = []
    for tokens, pause in asked:
        clock.now += pause
        try:
            quotas.take(caller, tokens)
        except (QuotaExceeded, LimitExceeded):
            continue
        taken.append((clock.now, tokens))
    for first, last in itertools.combinations_with_replacement(range(len(taken)), 2):
        tokens = sum(amount for _, amount in taken[first : last + 1])
        span = taken[last][0] - taken[first][0]
        assert tokens <= quota + span * quota / 60 + 1e-3


@given(quota=st.integers(1, 10_000), data=st.data())
def test_whoever_comes_back_when_told_is_let_in(quota: int, data: st.DataObject) -> None:
    clock = Clock()
    quotas, caller = Quotas(clock=clock), limited(quota)
    taken = data.draw(st.integers(1, quota))
    wanted = data.draw(st.integers(quota - taken + 1, quota))
    quotas.take(caller, taken)
    with pytest.raises(QuotaExceeded) as refusal:
        quotas.take(caller, wanted)
    seconds = refusal.value.retry_after
    assert seconds is not None
    assert 1 <= seconds <= 60
    clock.now += seconds
    quotas.take(caller, wanted)
