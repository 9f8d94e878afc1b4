from __future__ import annotations

import io
import json
from pathlib import Path

from foundation.reporting import Reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_than_on_a_terminal_every_event_is_one_json_line(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Reporter(stream=stream, clock=lambda: 5.0) as reporter:
        reporter.record_to(tmp_path / "events.jsonl")
        reporter.event("round.finished", "round 1", round=1)
    expected = {"time": 5.0, "event": "round.finished", "round": 1}
    assert json.loads(stream.getvalue()) == expected
    assert json.loads((tmp_path / "events.jsonl").read_text()) == expected


def test_progress_is_at_most_one_line_a_tenth() -> None:
    stream = io.StringIO()
    with Reporter(stream=stream) as reporter:
        for done in range(1001):
            reporter.progress("training", done, 1000)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 11
    assert lines[-1]["done"] == lines[-1]["total"] == 1000


def test_a_terminal_shows_sentences_and_no_json() -> None:
    stream = Terminal()
    with Reporter(stream=stream) as reporter:
        reporter.progress("training", 1, 2)
        reporter.event("round.finished", "round 1: promoted", round=1)
        reporter.event("step.started", step="train")
        reporter.progress("training", 2, 2)
    shown = stream.getvalue()
    assert "round 1: promoted" in shown
    assert "step.started" not in shown
    assert '{"' not in shown
