"""Pieces of text: every token is in one piece, and no character is split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.policy.text.pieces import BROKEN, pieces
from tests.tokenizers import TOKENIZERS

BYTES = ("byte-level", "byte-level without BOS", "one token for both", "bytes never split")
TEXT = "First mix the flour 🙂 é\n\nthen ñandú 漢字 👩‍👩‍👧 <b>x</b> \N{REPLACEMENT CHARACTER} end"


def ids_of(name: str, text: str) -> list[int]:
    return list(TOKENIZERS[name](text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_token_is_in_one_piece(name: str) -> None:
    ids = ids_of(name, TEXT)
    found = pieces(TOKENIZERS[name], ids)
    assert [place for piece in found for place in range(piece.first, piece.last + 1)] == list(range(len(ids)))
    assert all(piece.text for piece in found)


@pytest.mark.parametrize("name", BYTES)
def test_characters_of_several_tokens_come_whole(name: str) -> None:
    found = pieces(TOKENIZERS[name], ids_of(name, TEXT))
    assert "".join(piece.text for piece in found) == TEXT
    assert "🙂" in [piece.text.strip() for piece in found if piece.last > piece.first]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_comes_back(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = "".join(piece.text for piece in pieces(tokenizer, ids))
    assert joined == tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_bytes_that_are_no_character_stand_for_themselves() -> None:
    ids = ids_of("byte-level", "🙂")
    assert len(ids) == 4
    found = pieces(TOKENIZERS["byte-level"], [*ids[:2], *ids[:2], *ids_of("byte-level", "x")])
    assert [place for piece in found for place in range(piece.first, piece.last + 1)] == list(range(5))
    assert found[0].text == BROKEN
    assert found[-1].text == "x"


def test_special_tokens_are_said_to_be_special() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    found = pieces(tokenizer, [*ids_of("byte-level", "end"), tokenizer.eos_token_id])
    assert (found[-1].text, found[-1].special) == ("</s>", True)
    assert not found[0].special
    assert pieces(tokenizer, []) == []
