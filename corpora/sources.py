"""Where data is: a file, a folder in a hub's layout, or the name of a data set on a hub.

A folder holds a split as files whose names begin with it (``data/test-00000-of-00001.parquet``,
``test.jsonl``), or in a folder of its name, or else as files that have it as a word of their names
(``phrases_no_exclude_test.jsonl``). What a hub holds is fetched once into its own cache and
then read like a folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from corpora.errors import CorpusError
from corpora.streams import SUFFIXES

HUB_TIMEOUT_S = 10.0
"""A hub that says nothing for so long is out of reach."""

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
    files = sorted(path for path in folder.rglob("*") if _is_data(path, folder))
    if split is None:
        found = files
    else:
        found = [path for path in files if _is_of_split(path, folder, split)]
        found = found or [path for path in files if split in re.split("[-._]", path.stem)]
    if not found:
        wanted = f"of the split {split!r} " if split else ""
        there = ", ".join(str(path.relative_to(folder)) for path in files[:5]) or "none at all"
        raise CorpusError(f"{folder}: no data file {wanted}({', '.join(SUFFIXES)}); it has {there}")
    return found


def _is_data(path: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not is_hidden and path.suffix in SUFFIXES and path.is_file()


def _is_of_split(path: Path, folder: Path, split: str) -> bool:
    in_folder = split in path.relative_to(folder).parts[:-1]
    return in_folder or re.fullmatch(rf"{re.escape(split)}([-._].*)?", path.stem) is not None


def _fetch(source: str) -> Path:
    try:
        from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415 - local files need none

        # Not theirs to give, but the base of what whichever httpx they use raises.
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # noqa: PLC0415
    except ImportError:
        raise CorpusError(
            f"{source}: no such file or folder here, and asking the hub needs huggingface_hub,"
            " which is not installed; `pip install huggingface_hub`, or give the path of the data"
        ) from None
    name, _, given = source.partition("@")
    revision = given or None
    out_of_reach: Exception | None = None
    try:  # snapshot_download asks the same first, but waits for ever
        HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT_S)
    except (HTTPError, OSError, ValueError) as error:
        out_of_reach = error
    try:
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[f"*{suffix}" for suffix in SUFFIXES],
            local_files_only=out_of_reach is not None,
        )
    except (HTTPError, OSError, ValueError) as error:
        problem = out_of_reach or error
        reason = f"{type(problem).__name__}: {problem}".splitlines()[0]
        raise CorpusError(
            f"{source}: no such file or folder here, and the hub did not give it ({reason}); give"
            " the path of the data"
        ) from None
    return Path(folder)
