import json
from pathlib import Path
from typing import get_args

import pytest

from corpora.errors import CorpusError
from corpora.worlds import WorldName, open_world


@pytest.fixture
def files(tmp_path: Path) -> dict[WorldName, Path | None]:
    prompts, meadow = tmp_path / "prompts.jsonl", tmp_path / "meadow.json"
    prompts.write_text('{"prompt": "a"}\n{"prompt": "b"}\n', encoding="utf-8")
    records = [
        {
            "instruction": "Answer this question truthfully",
            "input": f"What causes disease {n}?",
            "output": f"It is caused by number {n}, which is known since long ago.",
        }
        for n in range(30)
    ]
    meadow.write_text(json.dumps(records), encoding="utf-8")
    return {"clinic": None, "medical-meadow": meadow, "prompts": prompts}


@pytest.mark.parametrize("name", get_args(WorldName))
def test_a_world_opens_under_its_own_name(
    files: dict[WorldName, Path | None], name: WorldName
) -> None:
    world = open_world(name, path=files[name], seed=0)
    assert world.name == name
    assert world.digest == open_world(name, path=files[name], seed=0).digest
    assert world.round_questions(1, 1)
    assert world.heldout_questions(1)


@pytest.mark.parametrize("name", ["medical-meadow", "prompts"])
def test_a_world_of_a_file_asks_for_it(name: WorldName) -> None:
    with pytest.raises(CorpusError, match=rf"^data\.path: .*{name}.* set data\.path=FILE$"):
        open_world(name, path=None, seed=0)


def test_the_bundled_world_refuses_a_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"remove data\.path$"):
        open_world("clinic", path=tmp_path, seed=0)
