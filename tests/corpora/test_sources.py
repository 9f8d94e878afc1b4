"""Where data is: files, folders, and a hub that is only its cache here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import constants

from corpora import sources
from corpora.errors import CorpusError
from corpora.sources import find_files

REVISION = "0123456789abcdef0123456789abcdef01234567"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(files: list[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in files]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a hub, in which a data set was left by an earlier download."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    data = touch(folder / "datasets--clinic--pairs", "refs/main")
    (data / "refs/main").write_text(REVISION, encoding="utf-8")
    shards = [f"data/test-0000{n}-of-00002.parquet" for n in (1, 0)]
    rest = ("README.md", "data/train-00000-of-00001.parquet")
    return touch(data / "snapshots" / REVISION, *shards, *rest)


def test_a_file_is_itself_whatever_the_split(tmp_path: Path) -> None:
    path = touch(tmp_path, "a.jsonl") / "a.jsonl"
    assert find_files(str(path)) == find_files(str(path), split="test") == [path]


@pytest.mark.parametrize(
    ("split", "found"),
    [
        pytest.param(
            None, ["a/b.csv", "test-1.json", "test.jsonl", "testing.json", "train.jsonl"], id="all"
        ),
        pytest.param("test", ["test-1.json", "test.jsonl"], id="by name"),
        pytest.param("a", ["a/b.csv"], id="by folder"),
        pytest.param("train", ["train.jsonl"], id="one"),
    ],
)
def test_a_folder_gives_the_files_of_a_split_in_order(
    tmp_path: Path, split: str | None, found: list[str]
) -> None:
    touch(tmp_path, "train.jsonl", "test.jsonl", "test-1.json", "a/b.csv")
    touch(tmp_path, "README.md", "testing.json")
    assert names(find_files(str(tmp_path), split=split), tmp_path) == found


def test_what_is_hidden_in_a_folder_is_no_data(tmp_path: Path) -> None:
    """``hf download --local-dir`` leaves its own notes there."""
    touch(tmp_path, ".cache/huggingface/trees/0a1b.json", "a.json", "._a.json")
    assert names(find_files(str(tmp_path)), tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("there", "found"),
    [
        pytest.param(
            ["phrases_no_exclude_test.jsonl", "phrases_no_exclude_train.jsonl"],
            ["phrases_no_exclude_test.jsonl"],
            id="MedQA's at its end",
        ),
        pytest.param(
            ["anatomy_test.csv", "anatomy_dev.csv", "contest.csv"], ["anatomy_test.csv"], id="MMLU"
        ),
        pytest.param(
            ["test.jsonl", "4_options/phrases_no_exclude_test.jsonl"],
            ["test.jsonl"],
            id="only where none begins with it",
        ),
    ],
)
def test_a_split_may_be_any_word_of_a_name(
    tmp_path: Path, there: list[str], found: list[str]
) -> None:
    touch(tmp_path, *there)
    assert names(find_files(str(tmp_path), split="test"), tmp_path) == found


@pytest.mark.parametrize(
    ("there", "split", "message"),
    [
        pytest.param(["a.jsonl"], "test", r"no data file of the split 'test' .*a\.jsonl", id="no"),
        pytest.param(["a.md"], None, r"no data file \(.*it has none at all", id="other files"),
        pytest.param([], None, "it has none at all", id="empty"),
    ],
)
def test_a_folder_without_data_says_what_it_has(
    tmp_path: Path, there: list[str], split: str | None, message: str
) -> None:
    touch(tmp_path, *there)
    with pytest.raises(CorpusError, match=message):
        find_files(str(tmp_path), split=split)


@pytest.mark.parametrize("name", ["clinic/pairs", "clinic/pairs@main", f"clinic/pairs@{REVISION}"])
def test_a_name_on_the_hub_is_read_from_its_cache(hub: Path, name: str) -> None:
    found = ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]
    assert names(find_files(name, split="test"), hub) == found
    assert names(find_files(name), hub) == [*found, "data/train-00000-of-00001.parquet"]


@pytest.mark.parametrize("name", ["clinic/ranks", f"clinic/pairs@{'f' * 40}"])
@pytest.mark.usefixtures("hub")
def test_what_the_cache_lacks_is_one_line_without_a_hub(name: str) -> None:
    with pytest.raises(CorpusError, match=r"the hub did not give it .*; give the path of the data"):
        find_files(name)


@pytest.mark.usefixtures("hub")
def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    with pytest.raises(CorpusError, match=r"^clinic/ranks: .* give it \(.*Connect") as caught:
        find_files("clinic/ranks")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["-clinic/pairs", "clinic/a..b", "clinic/pairs.git"])
def test_a_name_that_no_hub_would_give_is_one_line(name: str) -> None:
    with pytest.raises(CorpusError, match=r"the hub did not give it .*; give the path of the data"):
        find_files(name)


@pytest.fixture
def silent_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub that takes questions and answers none, as behind a firewall that drops packets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(sources, "HUB_TIMEOUT_S", 0.1)
        yield hub


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_is_silent_is_not_waited_for() -> None:
    with pytest.raises(CorpusError, match=r"^clinic/ranks: .* give it \(ReadTimeout: "):
        find_files("clinic/ranks")


@pytest.mark.timeout(60)
def test_what_was_fetched_before_needs_no_hub(silent_hub: Path) -> None:
    assert len(names(find_files("clinic/pairs", split="test"), silent_hub)) == 2


@pytest.mark.usefixtures("hub")
def test_a_hub_that_hangs_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        closing = threading.Thread(target=_hang_up, args=(server,), daemon=True)
        closing.start()
        with pytest.raises(CorpusError, match=r"^clinic/ranks: .* give it \(\w+Error: "):
            find_files("clinic/ranks")


def _hang_up(server: socket.socket) -> None:
    with suppress(OSError):  # the test is over
        while True:
            connection, _ = server.accept()
            connection.recv(1 << 16)
            connection.close()


@pytest.mark.parametrize("source", ["nowhere", "clinic/pairs.jsonl", "a/b/c", "clinic/", "a b/c"])
def test_what_is_no_name_is_not_looked_for_on_the_hub(source: str) -> None:
    with pytest.raises(CorpusError, match="no such file or folder; give the path of the data, or"):
        find_files(source)
