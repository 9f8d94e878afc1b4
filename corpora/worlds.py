"""Opens a world by the name that recipes use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from corpora.clinic import ClinicWorld
from corpora.errors import CorpusError
from corpora.medical_meadow import MedicalMeadowWorld
from corpora.prompts import PromptsWorld
from corpora.world import World

WorldName = Literal["clinic", "medical-meadow", "prompts"]


def open_world(name: WorldName, *, path: Path | None, seed: int) -> World:
    """The world of a recipe.

    Args:
        name: ``clinic`` is bundled; the others read a file.
        path: the file.
        seed: of everything that the world draws or splits.

    Raises:
        CorpusError: if a path is missing or not wanted, or the file cannot be used.
    """
    if name == "clinic":
        if path is not None:
            raise CorpusError(f"data.path: {path}: the clinic world is bundled; remove data.path")
        return ClinicWorld(seed=seed)
    if path is None:
        raise CorpusError(
            f"data.path: missing, and the {name} world reads a file; set data.path=FILE"
        )
    return MedicalMeadowWorld(path, seed) if name == "medical-meadow" else PromptsWorld(path, seed)
