"""Pages from templates: text is shown as text, and a name that is missing is an error.

Needs jinja2, which whoever only asks a server has no use for.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_environment(*folders: Path) -> Environment:
    """Renders the templates of these folders; a name is looked for in their order."""
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
