"""Editor of a pair as conversations: turns with their roles can be added, removed and filled, and tools described."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.state.access import may_edit, require_edit
from app.state.author import author
from app.text.plain import editable, plain
from app.widgets.pairs.acting import REFUSED
from app.widgets.pairs.merging import Draft
from app.widgets.pairs.text_editor import MINE, THEIRS, told_of_conflict
from lab.pairs import Answer, Message, Pair, PairsError, PairStore, Prompt

ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("role", "content", "reasoning_content", "tool_calls", "name", "tool_call_id")
"""Columns of the table of turns; further keys of a message are kept as they are."""
AS_JSON = ("tool_calls",)
ROLE_OF = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
"""Role of a text that is no conversation yet."""
OTHERS = "_others"
"""Column that holds the keys of a message without a column, as JSON; it is not shown."""

Guard = Callable[[Callable[[], Any]], Any]


def turns_of(value: Prompt | Answer, role: str) -> list[dict[str, str]]:
    """Return the rows of the table: one per message; a plain text is one turn of a role."""
    messages = [{"role": role, "content": value}] if isinstance(value, str) else value
    rows = []
    for message in messages:
        row = {name: _cell(message.get(name), name) for name in COLUMNS}
        rest = {key: value for key, value in message.items() if key not in COLUMNS}
        rows.append(row | {OTHERS: json.dumps(rest) if rest else ""})
    return rows


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    return _as_json(value) if name in AS_JSON or not isinstance(value, str) else editable(value)


def _as_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON for a field of the page: readable, but with unpaired surrogates as escapes, so that none is lost."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if text == editable(text) else json.dumps(value, indent=indent)


def messages_of(rows: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the messages that a table of turns describes; rows without anything in them are left out.

    Raises:
        PairsError: A row has no role, or tool calls that are not JSON; the message names the turn.
    """
    messages: list[Message] = []
    for number, row in enumerate(rows, 1):
        texts = {name: value for name in COLUMNS if isinstance(value := row.get(name), str) and value}
        if not texts:
            continue
        if texts.get("role") not in ROLES:
            raise PairsError(f"turn {number} has no role; choose one of {', '.join(ROLES)}.")
        for name in AS_JSON:
            if name in texts:
                try:
                    texts[name] = json.loads(texts[name])
                except ValueError as error:
                    raise PairsError(f"{name} of turn {number} is not JSON ({error}); write a list of calls.") from None
        content = texts.pop("content", None if "tool_calls" in texts else "")
        others = json.loads(row.get(OTHERS) or "{}")
        messages.append({"role": texts.pop("role"), "content": content, **texts, **others})
    return messages


def plain_if_single(messages: list[Message], role: str, plain: bool) -> Prompt | Answer:
    """Return a single plain turn as text, where the pair's prompt is text or its answer is one turn of the assistant."""
    single = len(messages) == 1 and set(messages[0]) == {"role", "content"} and messages[0]["role"] == role
    return str(messages[0]["content"]) if plain and single else messages


def edit_turns(store: PairStore, pair: Pair, act: Guard) -> None:
    """Draw the tables of turns of prompt and answers, the tools, and the button that saves all of them.

    Args:
        store: The pair set.
        pair: The pair as it is shown.
        act: Makes a change of the store, and shows a refusal on the page.
    """
    name = f"turns.{pair.id}.{pair.version}"
    parts = _parts(pair)
    draft: Draft[Any] | None = st.session_state.get(_draft(pair))
    begun, name = (parts, name) if draft is None else _choose(store, pair, draft, parts, name)
    rows = {"prompt": _table("Prompt", begun["prompt"], f"{name}.prompt")}
    for column, side in zip(st.columns(2), ("chosen", "rejected")):
        with column:
            rows[side] = _table(f"{side.capitalize()} answer", begun[side], f"{name}.{side}")
    tools = st.text_area(
        "Tools",
        begun["tools"],
        key=f"{name}.tools",
        placeholder="a JSON list of functions that the model may call, as the chat template takes them",
    )
    st.button(
        "Save turns",
        type="primary",
        key=f"{name}.save",
        disabled=not may_edit(),
        on_click=_saved_or_kept,
        args=(store, pair, rows, tools, act),
    )


def _parts(pair: Pair) -> dict[str, Any]:
    """Return what is edited: a table of turns for each text of the pair, and the tools as JSON."""
    tables: dict[str, Any] = {part: turns_of(getattr(pair, part), ROLE_OF[part]) for part in ROLE_OF}
    return tables | {"tools": _as_json(pair.tools, indent=1) if pair.tools else ""}


def _draft(pair: Pair) -> str:
    """Return the key of a pair's refused edit of its turns in the session."""
    return f"turns.draft.{pair.id}"


def _choose(store: PairStore, pair: Pair, draft: Draft[Any], parts: Mapping[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """Draw what happened and a choice for each part that both have changed; return the parts to begin with and a widget name."""
    st.warning(plain(told_of_conflict(store, pair)))
    begun, chosen = draft.merged(parts), ""
    for part in draft.conflicts(parts):
        choice = st.segmented_control(
            f"{part.capitalize()}, which both of you changed",
            [THEIRS, MINE],
            default=MINE,
            required=True,
            key=f"{name}.take.{part}",
        )
        begun[part] = parts[part] if choice == THEIRS else draft.mine[part]
        chosen += f".{part} {choice}"
    st.button("Discard my turns", key=f"{name}.discard", on_click=lambda: st.session_state.pop(_draft(pair), None))
    return begun, f"{name}.merged{chosen}"


def _saved_or_kept(store: PairStore, pair: Pair, rows: Mapping[str, list[dict[str, Any]]], tools: str, act: Guard) -> None:
    """Save the turns; where somebody else has changed the pair meanwhile, keep them to be put together with that."""
    saved = act(lambda: _save(store, pair, rows, tools))
    if saved is None and store.get(pair.id).version != pair.version:
        st.session_state[_draft(pair)] = Draft(_parts(pair), {**rows, "tools": tools})
        st.session_state.pop(REFUSED, None)  # the editor tells more
    elif saved is not None:
        st.session_state.pop(_draft(pair), None)


def _table(label: str, rows: list[dict[str, str]], key: str) -> list[dict[str, Any]]:
    st.caption(label)
    edited = st.data_editor(
        pd.DataFrame(rows, columns=[*COLUMNS, OTHERS]),
        key=key,
        num_rows="dynamic",
        hide_index=True,
        column_config={
            "role": st.column_config.SelectboxColumn("Role", options=list(ROLES), required=True, width="small"),
            "content": st.column_config.TextColumn("Content", width="large", help="Shift+Enter begins a new line."),
            "reasoning_content": st.column_config.TextColumn("Reasoning", width="medium"),
            "tool_calls": st.column_config.TextColumn("Tool calls (JSON)", width="medium"),
            "name": st.column_config.TextColumn("Name", width="small"),
            "tool_call_id": st.column_config.TextColumn("Tool call id", width="small"),
            OTHERS: None,
        },
    )
    records = edited.astype(object).where(edited.notna(), "").to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


def _save(store: PairStore, pair: Pair, rows: Mapping[str, list[dict[str, Any]]], tools: str) -> Pair:
    require_edit()
    try:
        described = json.loads(tools) if tools.strip() else None
    except ValueError as error:
        raise PairsError(f"tools is not JSON ({error}); write a list of functions, or nothing.") from None
    changes: dict[str, Any] = {}
    for part, role in ROLE_OF.items():
        before = getattr(pair, part)
        if rows[part] != turns_of(before, role):  # what was not touched stays as it was, to the last character
            changes[part] = plain_if_single(messages_of(rows[part]), role, isinstance(before, str))
    if described != pair.tools:
        changes["tools"] = described
    return store.edit(pair.id, **changes, expected_version=pair.version, author=author())
