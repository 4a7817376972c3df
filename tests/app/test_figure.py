"""What is sent of a figure, and what comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.widgets import shortcuts
from app.widgets.figure import packed, payload
from lab.plots import FIGURES, Record, run_figure, run_parts
from lab.run.handle import Run


def unpacked(value: Any) -> Any:
    """Arrays in base64 as lists."""
    if isinstance(value, dict):
        if "bdata" in value:
            flat = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
            return flat.reshape([int(n) for n in value["shape"].split(",")] if "shape" in value else -1).astype(float).tolist()
        return {key: unpacked(part) for key, part in value.items()}
    return [unpacked(part) for part in value] if isinstance(value, list) else value


def test_parts_are_sent_as_the_figure_is(store_run: Callable[..., Run]) -> None:
    record = Record(store_run("one", state="finished", steps=120).reader)
    for name in FIGURES:
        one = unpacked(json.loads(payload(run_parts(record, name), "/x.js"))["figure"])
        other = unpacked(json.loads(payload(run_figure(record, name), "/x.js"))["figure"])
        np.testing.assert_equal(one["data"], other["data"], err_msg=name)
        other["layout"].setdefault("template", {})
        assert one["layout"] == other["layout"], name


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64, np.uint8])
def test_numbers_of_every_kind_survive(kind: type) -> None:
    values = np.arange(6).reshape(2, 3).astype(kind)
    assert unpacked(json.loads(json.dumps(packed({"z": values, "range": [0, 1]})))) == {"z": values.tolist(), "range": [0, 1]}
    assert packed([values[:0], np.array(["a", None], object)]) == [[], ["a", None]]


def test_the_same_figure_has_the_same_name_and_another_one_has_not(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="finished", steps=60)
    sent = [json.loads(payload(run_parts(Record(run.reader, until), "loss"), ""))["id"] for until in (None, None, 30)]
    assert sent[0] == sent[1] != sent[2]


def test_a_key_does_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    known = {name: shortcuts.Key(name, lambda name=name: done.append(name)) for name in (",", "P")}
    monkeypatch.setattr(shortcuts.st, "session_state", {"k": {"pressed": "P"}, "other": {"pressed": "x"}})
    shortcuts._pressed(known, "k")
    shortcuts._pressed(known, "other")
    assert done == ["P"]
