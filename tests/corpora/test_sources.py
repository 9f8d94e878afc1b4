"""Where data is: files, folders, and a hub that is only its cache here."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

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


@pytest.mark.parametrize("source", ["nowhere", "clinic/pairs.jsonl", "a/b/c", "clinic/", "a b/c"])
def test_what_is_no_name_is_not_looked_for_on_the_hub(source: str) -> None:
    with pytest.raises(CorpusError, match="no such file or folder; give the path of the data, or"):
        find_files(source)
