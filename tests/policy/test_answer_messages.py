"""Answers of several messages, tool calls, tools, reasoning: as the template renders them; only the assistant's tokens count."""

from __future__ import annotations

import pytest
import torch

from lab.pairs import pair_of
from lab.policy import Encoder, PromptAnswer, load_policy
from lab.training.data.encoded_pairs import encode_pair
from tests.tokenizers import chat

TOOLS = [{"type": "function", "function": {"name": "water", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "function": {"name": "water", "arguments": {"pot": 0}}}
USER = {"role": "user", "content": "Water pot 0?"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
DONE = {"role": "tool", "name": "water", "content": "done, 3 ml"}


def said(text, **more):
    return {"role": "assistant", "content": text, **more}


ANSWERS = {
    "one call": [CALLING],
    "call, result, answer": [CALLING, DONE, said("Pot 0 is wet.")],
    "two calls": [CALLING, DONE, CALLING, DONE, said("Twice.")],
    "reasoning": [said("Every day.", reasoning_content="The pot is small.")],
    "the user asks again": [said("Yes."), {"role": "user", "content": "When?"}, said("Now.")],
}


def row(answer, tools=TOOLS):
    return {"prompt": [USER], "chosen": answer, "rejected": [said("Never mind.")], "tools": tools}


@pytest.mark.parametrize("kind", ["byte-level", "byte-level without BOS", "metaspace first"])
@pytest.mark.parametrize("name", ANSWERS)
def test_ids_and_mask_are_the_templates_own(kind, name):
    tokenizer, answer = chat(kind, "hermes"), ANSWERS[name]
    pair = pair_of(row(answer))
    encoded = encode_pair(pair, Encoder(tokenizer)).chosen
    own = tokenizer.apply_chat_template(
        [USER, *answer], tools=TOOLS, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    whole, marks = list(own["input_ids"]), list(own["assistant_masks"])
    last = max(i for i, mark in enumerate(marks) if mark)
    opening = list(Encoder(tokenizer).opening)
    ids = [*encoded.prompt, *encoded.answer]
    assert tokenizer.decode(ids[len(opening) :]) == tokenizer.decode(whole[: last + 1])
    trained = [i not in {j for a, b in encoded.untrained for j in range(a, b)} for i in range(len(encoded.answer))]
    assert tokenizer.decode([i for i, use in zip(encoded.answer, trained) if use]) == tokenizer.decode(
        [i for i, mark in zip(whole, marks) if mark]
    )
    if kind == "byte-level without BOS":
        assert ids == whole[: last + 1]
        assert [False] * len(encoded.prompt) + trained == [bool(mark) for mark in marks[: last + 1]]


def test_tools_are_in_the_prompt_also_where_turns_are_cut():
    tokenizer = chat("byte-level", "hermes")
    long = [{"role": "user", "content": "x " * 200}, said("ok"), USER]
    pair = pair_of({**row([CALLING]), "prompt": long})
    encoder = Encoder(tokenizer, max_length=300)
    encoded = encode_pair(pair, encoder)
    assert encoded.prompt_cut > 0
    text = tokenizer.decode(encoded.chosen.prompt)
    assert text.count("Tools: [") == 1
    assert "x x" not in text
    assert tokenizer.decode(encoder.prompt(pair.context).prompt) == text


@pytest.mark.parametrize(
    ("template", "given", "message"),
    [
        ("chatml", row([said("a", reasoning_content="r")], None), "does not write reasoning_content"),
        ("chatml", row([said("a", tool_calls=[CALL])], None), "does not write tool_calls"),
        ("chatml", row([said("a")]), "does not write tools"),
        ("chatml", {**row([said("a")], None), "prompt": [USER, said("x", tool_calls=[CALL]), DONE]}, "does not write tool_calls"),
        ("gemma", {**row([said("a")], None), "prompt": [{"role": "system", "content": "s"}, USER]}, "System role not supported"),
        ("reasoning", row([said("a"), USER, said("b")], None), "differently"),
    ],
)
def test_what_the_template_does_not_write_is_refused_by_name(template, given, message):
    with pytest.raises(ValueError, match=message):
        encode_pair(pair_of(given), Encoder(chat("byte-level", template)))


def test_given_tokens_have_no_log_prob_gradient_or_place_in_the_reference(model_folder, tmp_path):
    from lab.policy.reference_cache import ReferenceCache

    policy = load_policy(str(model_folder("gpt2")))
    whole = PromptAnswer((5, 6, 7), (8, 9, 10, 11, 12))
    given = PromptAnswer((5, 6, 7), (8, 9, 10, 11, 12), ((1, 3),))
    plain, masked = policy.logps([whole]), policy.logps([given])
    assert masked.mask.tolist() == [[True, False, False, True, True]]
    assert torch.equal(masked.logps, torch.where(masked.mask, plain.logps, 0.0))
    cache = ReferenceCache(tmp_path, policy)
    cache.prepare(policy, [whole, given])
    assert cache.lookup(given)[1:3].tolist() == [0, 0]
    assert cache.lookup(whole)[1] != 0
    cache.close()
