"""Text to tokens: one BOS, one EOS, a boundary that stays, nothing cut in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.policy import Encoder
from tests.models import tokenizer

TOKENIZER = tokenizer()
CHAT = tokenizer()
CHAT.chat_template = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(TEXT, TEXT)
def test_plain_rows(prompt, answer):
    found = Encoder(TOKENIZER)(prompt, answer)
    assert list(found.prompt).count(0) == 1
    assert found.prompt[0] == 0
    assert list(found.answer).count(1) == 1
    assert found.answer[-1] == 1
    assert TOKENIZER.decode(found.prompt[1:]) == prompt
    assert TOKENIZER.decode(found.answer[:-1]) == answer


@given(TEXT, TEXT)
def test_the_prompt_does_not_depend_on_the_answer(prompt, answer):
    assert Encoder(TOKENIZER)(prompt, answer).prompt == Encoder(TOKENIZER)(prompt, "other").prompt


def test_a_conversation_has_one_bos_and_ends_in_one_eos():
    found = Encoder(CHAT)([{"role": "user", "content": "Hi"}], "Hello")
    assert list(found.prompt).count(0) == 1
    assert list(found.answer).count(1) == 1
    assert found.answer[-1] == 1
    assert CHAT.decode(found.answer[:-1]) == "Hello"
    assert CHAT.decode(found.prompt[1:]) == "[user]Hi[assistant]"


def test_a_conversation_without_a_template_says_what_to_do():
    with pytest.raises(ValueError, match="no chat template"):
        Encoder(TOKENIZER)([{"role": "user", "content": "Hi"}], "Hello")


def test_a_long_prompt_is_cut_from_the_left_and_a_long_answer_is_counted():
    encoder = Encoder(TOKENIZER, max_length=30)
    found = encoder("x1 y2 z3 " * 20, "short")
    assert len(found.prompt) + len(found.answer) == 30
    assert found.prompt_cut > 0
    assert found.answer_cut == 0
    assert found.prompt[0] == 0
    assert TOKENIZER.decode(found.answer[:-1]) == "short"
    found = encoder("Hi", "q7 w8 " * 50)
    assert found.answer_cut > 0
    assert found.answer[-1] != 1  # a truncated answer does not end
    assert len(found.prompt) + len(found.answer) <= 30
