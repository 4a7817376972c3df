"""Conversations as tables of turns: nothing is lost on the way, and what is no conversation is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.widgets.pairs.turn_editor import messages_of, plain_if_single, turns_of
from lab.pairs import PairsError

TEXT = some.text(some.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)
CALL = some.builds(lambda name, text: {"type": "function", "function": {"name": name, "arguments": {"q": text}}}, TEXT, TEXT)
MESSAGE = some.one_of(
    some.fixed_dictionaries({"role": some.sampled_from(["system", "user", "assistant"]), "content": TEXT}),
    some.fixed_dictionaries({"role": some.just("assistant"), "content": TEXT, "reasoning_content": TEXT, "mood": TEXT}),
    some.fixed_dictionaries({"role": some.just("assistant"), "content": some.none(), "tool_calls": some.lists(CALL, min_size=1)}),
    some.fixed_dictionaries({"role": some.just("tool"), "content": TEXT, "name": TEXT, "tool_call_id": TEXT}),
)


@given(some.lists(MESSAGE, min_size=1, max_size=5))
def test_a_conversation_survives_the_table(messages: list[dict[str, Any]]) -> None:
    assert messages_of(turns_of(messages, "user")) == messages


def test_json_in_fields_keeps_what_no_field_can_hold() -> None:
    calls = [{"type": "function", "function": {"name": "half \ud800", "arguments": {}}}]
    (row,) = turns_of([{"role": "assistant", "content": None, "tool_calls": calls}], "assistant")
    row["tool_calls"].encode()
    assert messages_of([row])[0]["tool_calls"] == calls


@given(TEXT)
def test_a_text_is_one_turn_and_stays_text(text: str) -> None:
    (row,) = turns_of(text, "user")
    assert (row["role"], row["content"]) == ("user", text)
    assert plain_if_single(messages_of([row]), "user", True) == text
    assert plain_if_single(messages_of([row]), "user", False) == [{"role": "user", "content": text}]
    added = messages_of([{"role": "system", "content": "Be brief."}, row])
    assert plain_if_single(added, "user", True) == added


def test_empty_rows_are_left_out_and_wrong_ones_are_named() -> None:
    assert messages_of([{"role": "", "content": ""}, {"role": "user", "content": "hi"}]) == [{"role": "user", "content": "hi"}]
    with pytest.raises(PairsError, match="turn 2 has no role"):
        messages_of([{"role": "user", "content": "hi"}, {"content": "who says this?"}])
    with pytest.raises(PairsError, match="tool_calls of turn 1 is not JSON"):
        messages_of([{"role": "assistant", "tool_calls": "call it"}])
