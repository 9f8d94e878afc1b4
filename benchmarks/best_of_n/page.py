"""The page of one evaluation: its curves, what they differ by, and what decided the numbers.

Made from the results alone, in the style of the reward benchmarks' page: it asks nothing from
anywhere, and names are shown as text and nothing else. Same results, same bytes.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment

from benchmarks import page
from benchmarks.best_of_n import drawings, report
from benchmarks.best_of_n.results import BestOfNResults
from benchmarks.tables import OVERALL, bracket, percent
from foundation.journal import writing
from foundation.pages import page_environment
from foundation.words import decimal, signed

HERE = Path(__file__).parent
STYLE = Path(page.__file__).parent


def write_page(path: Path, results: BestOfNResults) -> None:
    """Writes the page, whole or not at all.

    Raises:
        JobError: if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        partial.write_text(render(results), encoding="utf-8")
        partial.replace(path)


def render(results: BestOfNResults) -> str:
    """The page as HTML."""
    overall, names = results.overall, list(results.sections)
    lead = names[0] if len(names) == 1 else OVERALL
    parts = {} if overall is None else {**results.sections, lead: overall}
    panels = {name: drawings.draw_panel(part) for name, part in parts.items()}
    return (
        _environment()
        .get_template("curves.html.j2")
        .render(
            results=results,
            measure=report.MEASURES[results.measure],
            overall=overall,
            gains={} if overall is None else report.differences(overall),
            parts=parts,
            lead=lead,
            leading=panels.pop(lead, None),
            panels=panels,
            tables=list(report.tables(results)),
            settings=dict(page.flatten(results.settings)),
        )
    )


def _environment() -> Environment:
    environment = page_environment(HERE, STYLE)
    environment.globals |= {
        "frame": {
            "width": drawings.WIDTH,
            "height": drawings.HEIGHT,
            "left": drawings.LEFT,
            "right": drawings.RIGHT,
            "top": drawings.TOP,
            "bottom": drawings.BOTTOM,
        }
    }
    named = (decimal, percent, bracket, signed)
    environment.filters |= {function.__name__: function for function in named}
    return environment
