"""The artefact cache: folders named by the content that made them.

An artefact is built in a temporary folder and renamed when it is whole, so a folder that is there
is complete; two processes that want the same artefact build it once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

MADE_FROM = "made_from.json"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One artefact. ``size_bytes`` counts its files; ``modified`` is a POSIX time in seconds."""

    kind: str
    key: str
    path: Path
    size_bytes: int
    modified: float


def default_cache_root() -> Path:
    """``$XDG_CACHE_HOME/medpref``, by default ``~/.cache/medpref``."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "medpref"


def content_key(made_from: Mapping[str, Any]) -> str:
    """16 hex digits over everything that determines an artefact."""
    canonical = json.dumps(made_from, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def digest_files(*paths: Path) -> str:
    """16 hex digits over the bytes of files, and of every file below folders, in name order."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ArtifactCache:
    """Artefacts of several kinds below one root folder."""

    root: Path

    def find(self, kind: str, made_from: Mapping[str, Any]) -> Path | None:
        """The finished artefact, or ``None``."""
        path = self.root / kind / content_key(made_from)
        return path if path.is_dir() else None

    def obtain(
        self, kind: str, made_from: Mapping[str, Any], make: Callable[[Path], object]
    ) -> Path:
        """The artefact, made now if it is not there.

        Args:
            kind: names the shelf, for people.
            made_from: everything that determines the content; its hash is the folder's name.
            make: called with a path that does not exist yet and must be a folder afterwards.
        """
        path = self.root / kind / content_key(made_from)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_dir():
                partial = path.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                make(partial)
                record = json.dumps(made_from, indent=2, sort_keys=True, default=str)
                (partial / MADE_FROM).write_text(record + "\n", encoding="utf-8")
                partial.rename(path)
        return path

    def entries(self) -> list[CacheEntry]:
        """Finished artefacts, oldest first."""
        folders = [path.parent for path in self.root.glob(f"*/*/{MADE_FROM}")]
        entries = [_entry(folder) for folder in folders if folder.suffix != ".partial"]
        return sorted(entries, key=lambda entry: entry.modified)

    def clear(self) -> int:
        """Removes everything; the number of artefacts that went."""
        count = len(self.entries())
        shutil.rmtree(self.root, ignore_errors=True)
        return count


def _entry(folder: Path) -> CacheEntry:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    modified = (folder / MADE_FROM).stat().st_mtime
    return CacheEntry(folder.parent.name, folder.name, folder, size, modified)
