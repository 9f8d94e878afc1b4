from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from foundation.settings import Settings, SettingsError, apply_override, load_settings


class Inner(Settings):
    window: int = Field(default=4, ge=1)
    name: str | None = None

    @model_validator(mode="after")
    def _is_narrow(self) -> Inner:
        if self.name == "narrow" and self.window > 8:
            raise ValueError(f"window {self.window} is not narrow; make it 8 at most")
        return self


class Walk(Settings):
    kind: Literal["walk"]
    steps: int = 1


class Drive(Settings):
    kind: Literal["drive"]
    litres: float = 1.0


class Outer(Settings):
    seed: int
    inner: Inner = Inner()
    trips: dict[str, Annotated[Walk | Drive, Field(discriminator="kind")]] = Field(
        default_factory=dict
    )
    rows: tuple[Inner, ...] = ()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 1\n[inner]\nwindow = 8\n")
    return path


def test_a_file_is_read_into_its_model(recipe: Path) -> None:
    assert load_settings(Outer, recipe) == Outer(seed=1, inner=Inner(window=8))


def test_an_override_wins_over_the_file(recipe: Path) -> None:
    settings = load_settings(Outer, recipe, ["inner.window=2", "inner.name=plain text"])
    assert settings.inner == Inner(window=2, name="plain text")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1e-4", 1e-4, id="float"),
        pytest.param("true", True, id="boolean"),
        pytest.param("[1, 2]", [1, 2], id="list"),
        pytest.param('"quoted"', "quoted", id="quoted text"),
        pytest.param("http://127.0.0.1:8000", "http://127.0.0.1:8000", id="URL"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_an_override_is_toml_or_else_text(text: str, value: object) -> None:
    content: dict[str, object] = {}
    apply_override(content, f"a.b={text}")
    assert content == {"a": {"b": value}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        pytest.param("inner.window", "section.key=value", id="no equals sign"),
        pytest.param("=3", "section.key=value", id="no key"),
        pytest.param("seed.x=3", "seed is a value", id="a value is no section"),
        pytest.param("inner.windo=3", "inner.windo: unknown key; did you mean window?", id="typo"),
        pytest.param("inner.zzz=3", "known here: window, name", id="far from any key"),
        pytest.param(
            'trips.drive={kind="drive", litre=2}',
            "trips.drive.litre: unknown key; did you mean litres?",
            id="typo in a member of a union",
        ),
        pytest.param(
            'trips.a={kind="walk", litres=2}',
            "trips.a.litres: unknown key; known here: kind, steps",
            id="key of another member",
        ),
        pytest.param(
            'trips.a={kind="walk", steps="x"}', "trips.a.steps: 'x': Input", id="value in a member"
        ),
        pytest.param(
            "rows=[{window=1}, {windo=1}]", "rows.1.windo: unknown key; did you mean w", id="row"
        ),
        pytest.param("inner.window=0", "inner.window: 0: Input should be greater", id="range"),
        pytest.param("seed=many", "seed: 'many'", id="type"),
        pytest.param(
            'inner={window=9, name="narrow"}',
            "inner: window 9 is not narrow; make it 8 at most",
            id="a rule between fields",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_with_field_and_fix(
    recipe: Path, override: str, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Outer, recipe, [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    with pytest.raises(SettingsError, match=r"empty\.toml: seed: missing; add it"):
        load_settings(Outer, path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"seed = ", "malformed TOML", id="malformed"),
        pytest.param(b"\xff\xfe", "cannot be read", id="not text"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        load_settings(Outer, path)
