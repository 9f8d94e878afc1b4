from __future__ import annotations

from pathlib import Path

import pytest

from foundation.settings import load_settings
from loop.config import Recipe
from loop.errors import RunError
from loop.folder import open_run_folder

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.toml"


def recipe(*overrides: str) -> Recipe:
    return load_settings(Recipe, QUICKSTART, overrides)


def test_a_new_run_gets_its_folders_and_its_resolved_recipe(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "run", recipe("seed=3"), resume=False)
    assert Recipe.model_validate_json(folder.config.read_text()) == recipe("seed=3")
    assert folder.path.joinpath("policies").is_dir()


def test_a_new_run_never_overwrites_an_old_one(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "run", recipe(), resume=False)
    with pytest.raises(RunError, match="add --resume or name another --run-dir"):
        open_run_folder(tmp_path / "run", recipe(), resume=False)


def test_a_run_goes_on_with_its_own_recipe_only(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "run", recipe(), resume=False)
    open_run_folder(tmp_path / "run", recipe(), resume=True)
    with pytest.raises(RunError, match=r"the recipe changed since this run began: gate\.confid"):
        open_run_folder(tmp_path / "run", recipe("gate.confidence=0.9"), resume=True)


def test_the_servers_may_have_moved_when_a_run_goes_on(tmp_path: Path) -> None:
    first = recipe(
        "policy.model=m", "policy.url=http://a:1", "reward.url=http://a:2", "reward.api_key_env=A"
    )
    second = recipe(
        "policy.model=m", "policy.url=http://b:1", "reward.url=http://b:2", "reward.api_key_env=B"
    )
    open_run_folder(tmp_path / "run", first, resume=False)
    assert open_run_folder(tmp_path / "run", second, resume=True).path == tmp_path / "run"
