from __future__ import annotations

from pathlib import Path

import pytest

from foundation.cache import ArtifactCache, content_key, default_cache_root, digest_files


def write_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "weights").write_bytes(b"1234")


def test_an_artefact_is_made_once(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        write_model(folder)

    first = cache.obtain("policy", {"seed": 1}, make)
    again = cache.obtain("policy", {"seed": 1}, make)
    other = cache.obtain("policy", {"seed": 2}, make)
    assert first == again == cache.find("policy", {"seed": 1})
    assert other != first
    assert len(made) == 2


def test_a_failed_attempt_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)

    def fail(folder: Path) -> None:
        write_model(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.obtain("policy", {}, fail)
    assert cache.find("policy", {}) is None
    assert cache.entries() == []
    assert (cache.obtain("policy", {}, write_model) / "weights").read_bytes() == b"1234"


def test_entries_are_counted_and_cleared(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    cache.obtain("policy", {}, write_model)
    [entry] = cache.entries()
    assert (entry.kind, entry.key) == ("policy", content_key({}))
    assert entry.size_bytes > 4
    assert cache.clear() == 1
    assert cache.entries() == []


def test_the_cache_stands_below_the_xdg_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_root() == tmp_path / "medpref"


def test_a_digest_follows_content_and_names(tmp_path: Path) -> None:
    for name, content in [("a", "1"), ("b", "1"), ("c", "2")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    digests = [digest_files(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
