"""Where data is: a file, a folder in a hub's layout, or the name of a data set on a hub.

A folder holds a split as files whose names begin with it (``data/test-00000-of-00001.parquet``,
``test.jsonl``), or in a folder of its name. What a hub holds is fetched once into its own cache and
then read like a folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from corpora.errors import CorpusError
from corpora.streams import SUFFIXES

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


def find_files(source: str, *, split: str | None = None) -> list[Path]:
    """The data files of a source, in the order of their names.

    Args:
        source: the path of a file or folder, or ``owner/name`` or ``owner/name@revision`` on a hub.
        split: of a folder or hub; ``None`` for all files. A file is read whole.

    Raises:
        CorpusError: if there is no such file, or no file of the split; one line with the fix.
    """
    if not source:
        raise CorpusError("source: empty; give the path of the data, or owner/name on the hub")
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _of_split(path, split)
    if not _HUB_NAME.fullmatch(source) or path.suffix in SUFFIXES:
        raise CorpusError(
            f"{source}: no such file or folder; give the path of the data, or owner/name of a data"
            " set on the hub"
        )
    return _of_split(_fetch(source), split)


def _of_split(folder: Path, split: str | None) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    found = [path for path in files if split is None or _is_of_split(path, folder, split)]
    if not found:
        wanted = f"of the split {split!r} " if split else ""
        there = ", ".join(str(path.relative_to(folder)) for path in files[:5]) or "none at all"
        raise CorpusError(f"{folder}: no data file {wanted}({', '.join(SUFFIXES)}); it has {there}")
    return found


def _is_of_split(path: Path, folder: Path, split: str) -> bool:
    in_folder = split in path.relative_to(folder).parts[:-1]
    return in_folder or re.fullmatch(rf"{re.escape(split)}([-._].*)?", path.stem) is not None


def _fetch(source: str) -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - local files need none
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    except ImportError:
        raise CorpusError(
            f"{source}: no such file or folder here, and asking the hub needs huggingface_hub,"
            " which is not installed; `pip install huggingface_hub`, or give the path of the data"
        ) from None
    name, _, revision = source.partition("@")
    patterns = [f"*{suffix}" for suffix in SUFFIXES]
    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision or None, allow_patterns=patterns
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CorpusError(
            f"{source}: no such file or folder here, and the hub did not give it ({reason}); give"
            " the path of the data"
        ) from None
    return Path(folder)
