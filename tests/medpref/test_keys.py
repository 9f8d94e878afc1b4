from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from foundation.errors import UserError
from medpref.commands.keys import main
from reward_server.access import Caller, Keyring
from reward_server.errors import ServerStartError, Unauthorized
from reward_server.keyfile import read_keys

TODAY = datetime.now(UTC).date()
TOMORROW = TODAY + timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def add(path: Path, name: str, *more: str) -> int:
    return main(["add", str(path), "--name", name, *more])


def test_a_new_key_is_printed_once_and_opens_the_server(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(path, "loop") == 0
    told = capsys.readouterr()
    secret = told.out.strip()
    assert secret.startswith("mp_")
    assert secret not in told.err + path.read_text()
    assert Keyring.load(path).identify(f"Bearer {secret}") == Caller("loop", frozenset({"score"}))


def test_a_key_has_what_it_was_given(path: Path) -> None:
    add(
        path,
        "operator",
        *("--scope", "admin", "--scope", "score", "--scope", "admin"),
        *("--tokens-per-minute", "1000", "--expires", TOMORROW.isoformat()),
    )
    (key,) = read_keys(path)
    assert key.scopes == ("admin", "score")
    assert key.tokens_per_minute == 1000
    assert key.expires == TOMORROW
    assert TODAY <= key.created <= TOMORROW


def test_the_list_shows_all_but_the_secrets(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(path, "loop", "--tokens-per-minute", "2000000")
    add(path, "operator", "--scope", "admin", "--expires", TOMORROW.isoformat())
    secrets = capsys.readouterr().out.split()
    assert main(["list", str(path)]) == 0
    shown = capsys.readouterr().out
    header, loop, operator = shown.splitlines()
    assert "tokens a minute" in header
    assert loop.split() == ["loop", "score", "2,000,000", str(TODAY), "never"]
    assert operator.split() == ["operator", "admin", "no", "limit", str(TODAY), str(TOMORROW)]
    assert not any(secret in shown for secret in secrets)
    assert not any(key.sha256[:8] in shown for key in read_keys(path))


def test_an_expired_key_is_listed_as_such(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(path, "loop", "--expires", TOMORROW.isoformat())
    path.write_text(path.read_text().replace(TOMORROW.isoformat(), date(2020, 1, 1).isoformat()))
    capsys.readouterr()
    main(["list", str(path)])
    assert "2020-01-01 (has)" in capsys.readouterr().out


def test_a_revoked_key_opens_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(path, "loop")
    add(path, "eval")
    secret = capsys.readouterr().out.split()[0]
    assert main(["revoke", str(path), "--name", "loop"]) == 0
    assert [key.name for key in read_keys(path)] == ["eval"]
    with pytest.raises(Unauthorized):
        Keyring.load(path).identify(secret)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["add", "FILE", "--name", "loop"], "'loop' is in", id="name taken"),
        pytest.param(["add", "FILE", "--name", "a b"], "name: 'a b'", id="name with a space"),
        pytest.param(
            ["add", "FILE", "--name", "a", "--tokens-per-minute", "0"],
            "tokens_per_minute: 0",
            id="no tokens",
        ),
        pytest.param(
            ["add", "FILE", "--name", "a", "--expires", TODAY.isoformat()],
            f"--expires: {TODAY} is not to come",
            id="expired already",
        ),
        pytest.param(
            ["revoke", "FILE", "--name", "eval"], "no key 'eval' in .*: loop", id="unknown name"
        ),
        pytest.param(["add", "none/keys.json", "--name", "a"], "no folder there", id="no folder"),
        pytest.param(["list", "none.json"], "no such file", id="list of nothing"),
        pytest.param(["revoke", "none.json", "--name", "a"], "no such file", id="revoke nothing"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    add(path, "loop")
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(UserError, match=words) as caught:
        main([str(path) if argument == "FILE" else argument for argument in arguments])
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "ACTION", id="no action"),
        pytest.param(["add", "keys.json"], "--name", id="no name"),
        pytest.param(["add", "keys.json", "--name", "a", "--scope", "root"], "root", id="scope"),
        pytest.param(
            ["add", "keys.json", "--name", "a", "--expires", "soon"],
            "'soon' is no day; write it as 2027-01-31",
            id="no date",
        ),
    ],
)
def test_bad_usage_is_one_line_that_points_to_the_help(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert "--help" in error


def test_a_file_that_is_open_to_others_is_not_added_to(path: Path) -> None:
    add(path, "loop")
    path.chmod(0o666)
    with pytest.raises(ServerStartError, match="chmod 600"):
        add(path, "eval")
