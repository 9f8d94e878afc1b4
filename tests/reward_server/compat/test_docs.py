"""The page about wires: its requests are answered and its reward function works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from reward_server.compat import ROUTERS
from tests.reward_server.compat.fake import FakeScoring

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[3] / "docs" / "wires.md").read_text(encoding="utf-8")
CURL = re.compile(r"^curl -s (\S+)( -H \S+ \S+)? -d '(.*?)'$", re.DOTALL | re.MULTILINE)
REQUESTS = [(urlsplit(url).path, body) for url, _, body in CURL.findall(PAGE)]
PYTHON = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_has_its_requests() -> None:
    assert len(REQUESTS) == 7


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_a_request_of_the_page_is_answered(
    wires: httpx.AsyncClient, path: str, body: str
) -> None:
    assert (await wires.post(path, json=json.loads(body))).status_code == 200


async def test_the_reward_function_for_verl_gives_the_raw_reward(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    assert PYTHON
    module: dict[str, Any] = {}
    exec(PYTHON[1], module)
    await module["CLIENT"].aclose()
    module["CLIENT"] = wires
    reward = await module["compute_score"](
        data_source="clinic",
        solution_str="Rest.",
        ground_truth=None,
        extra_info={"messages": [{"role": "user", "content": "nose?"}]},
    )
    assert reward == {"score": 4.0}  # u:nose?;a:Rest.; is 16 long
    assert scoring.scored[0].groups[0].candidates == ("Rest.",)


def test_every_wire_is_on_the_page() -> None:
    paths = {route.path.replace("{name}", "NAME") for router in ROUTERS for route in router.routes}  # type: ignore[attr-defined]
    assert [path for path in sorted(paths) if path not in PAGE] == []
