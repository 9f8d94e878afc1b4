"""``medpref cache``: the models that were made here."""

from __future__ import annotations

import sys
from datetime import datetime

from rich.console import Console
from rich.table import Table

from foundation.cache import ArtifactCache, default_cache_root
from foundation.parsing import Parser


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref cache",
        "Show the base policies and reward models that were made here, or clear them.",
        examples="  medpref cache\n  medpref cache clear",
    )
    parser.add_argument("action", nargs="?", choices=["show", "clear"], default="show")
    cache = ArtifactCache(default_cache_root())
    if parser.parse_args(arguments).action == "clear":
        sys.stdout.write(f"removed {cache.clear()} artefacts from {cache.root}\n")
        return 0
    table = Table("kind", "key", "size", "made", title=str(cache.root), title_justify="left")
    for entry in cache.entries():
        made = datetime.fromtimestamp(entry.modified).astimezone()
        table.add_row(entry.kind, entry.key, f"{entry.size_bytes / 2**20:.1f} MiB", f"{made:%c}")
    Console().print(table)
    return 0
