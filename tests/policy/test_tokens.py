"""Encoding with tokenizers and templates of every kind: one BOS, one EOS, a fixed boundary, and counted cuts."""

from __future__ import annotations

import pytest
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from lab.pairs import pair_of
from lab.policy import Encoder, load_policy, sample_answers
from lab.training.data.encoded_pairs import encode_pair
from tests.tokenizers import TEMPLATES, TOKENIZERS, TURN_ENDS, WITHOUT_BOS, byte_level, chat

CHATS = {(kind, template): chat(kind, template) for kind in TOKENIZERS for template in TEMPLATES}
LOSSLESS = [kind for kind in TOKENIZERS if ("byte" in kind and "space" not in kind) or kind == "one token for both"]
READABLE = "abdefhiklmnorstuw HFW,.?\n"
"""Characters that every kind but whole words can write, so that what went in comes out."""

ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
TEXT = st.text(READABLE, min_size=1, max_size=60).filter(str.strip)
KIND = st.sampled_from(list(TOKENIZERS))
TEMPLATE = st.sampled_from(list(TEMPLATES))
PLAIN = settings(max_examples=200, deadline=None)


def begin_of(kind: str) -> int:
    """How many tokens a tokenizer of a kind puts before a text."""
    return int(kind not in WITHOUT_BOS)


def says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@st.composite
def conversations(draw: st.DrawFn, template: str = "") -> list[dict[str, str]]:
    """One to three questions with the answers between them, perhaps after a system message."""
    turns = draw(st.integers(1, 3))
    messages = [says("system", draw(TEXT))] if template != "gemma" and draw(st.booleans()) else []
    for number in range(2 * turns - 1):
        messages.append(says("assistant" if number % 2 else "user", draw(TEXT)))
    return messages


# Plain text.


@PLAIN
@given(KIND, ANYTHING, st.one_of(ANYTHING, st.just("")))
def test_plain_rows_begin_and_end_once(kind, prompt, answer):
    tokenizer = TOKENIZERS[kind]
    assume(kind not in WITHOUT_BOS or tokenizer(prompt, add_special_tokens=False)["input_ids"])
    found = Encoder(tokenizer)(prompt, answer)
    assert found.prompt[: begin_of(kind)] == (tokenizer.bos_token_id,) * begin_of(kind)
    assert found.prompt.count(tokenizer.bos_token_id) == begin_of(kind)
    assert found.answer[-1] == tokenizer.eos_token_id
    assert found.answer.count(tokenizer.eos_token_id) == 1
    assert (found.prompt_cut, found.answer_cut) == (0, 0)


@PLAIN
@given(st.sampled_from(LOSSLESS), ANYTHING, ANYTHING)
def test_what_goes_in_comes_out(kind, prompt, answer):
    tokenizer = TOKENIZERS[kind]
    found = Encoder(tokenizer)(prompt, answer)
    begin = begin_of(kind)
    assert tokenizer.decode(found.prompt[begin:]) == prompt
    assert tokenizer.decode(found.answer[:-1]) == answer


@PLAIN
@given(st.sampled_from(sorted(set(TOKENIZERS) - {"whole words"})), TEXT, TEXT)
def test_no_space_comes_between_prompt_and_answer(kind, prompt, answer):
    tokenizer = TOKENIZERS[kind]
    found = Encoder(tokenizer)(prompt, answer)
    row = [*found.prompt[begin_of(kind) :], *found.answer[:-1]]
    assert tokenizer.decode(row).lstrip(" ") == (prompt + answer).lstrip(" ")


@PLAIN
@given(KIND, TEXT, TEXT, TEXT)
def test_the_boundary_does_not_move(kind, prompt, one, other):
    encoder = Encoder(TOKENIZERS[kind])
    assert encoder(prompt, one).prompt == encoder(prompt, other).prompt
    assert encoder(prompt, one).answer == encoder(other, one).answer
    assert encoder(prompt, one).prompt == encoder.prompt(prompt).prompt  # what is sampled from is what is trained on


@PLAIN
@given(KIND, st.integers(16, 200), st.integers(1, 120), TEXT, TEXT)
def test_the_boundary_of_a_long_prompt_does_not_move(kind, max_length, message, one, other):
    """Sampling asks all that training has of a prompt, however little room there is."""
    tokenizer = TOKENIZERS[kind]
    encoder, begin = Encoder(tokenizer, max_length), begin_of(kind)
    prompt = " ".join(["flour", "water", "dough", "hour"][i % 4] for i in range(message))
    trained, asked = encoder.together(prompt, [one, other])[0], encoder.prompt(prompt)
    assert asked.answer == ()
    assert len(asked.prompt) + asked.prompt_cut == len(trained.prompt) + trained.prompt_cut
    if not trained.prompt_cut:
        assert asked.prompt == trained.prompt
    assert len(asked.prompt) <= max_length
    assert asked.prompt[:begin] == trained.prompt[:begin]
    kept = trained.prompt[begin:]
    assert asked.prompt[len(asked.prompt) - len(kept) :] == kept
    assert encoder.prompt(prompt, 9).prompt == (
        asked.prompt if len(asked.prompt) <= 9 else (*asked.prompt[:begin], *asked.prompt[begin - 9 :])
    )


def test_a_tokenizer_that_would_merge_across_the_boundary():
    tokenizer = TOKENIZERS["bytes never split"]
    joint = tokenizer("bread?\nFirst mix", add_special_tokens=False)["input_ids"]
    found = Encoder(tokenizer)("bread?\n", "First mix")
    assert [*found.prompt, *found.answer[:-1]] != joint  # read as one text, a token would reach over the boundary
    assert tokenizer.decode(found.prompt) == "bread?\n"


def test_a_prompt_that_ends_in_a_space_keeps_it():
    tokenizer = TOKENIZERS["byte-level"]
    found = Encoder(tokenizer)("How? ", "mix")
    assert tokenizer.decode(found.prompt[1:]) == "How? "
    assert tokenizer.decode(found.answer[:-1]) == "mix"


@pytest.mark.parametrize("prompt", ["<s>How?", "<s><s>How?", "How?"])
def test_bos_that_stands_in_the_text_is_not_doubled(prompt):
    found = Encoder(TOKENIZERS["byte-level"])(prompt, "Mix.")
    assert found.prompt.count(0) == 1
    assert found.prompt == Encoder(TOKENIZERS["byte-level"])("How?", "Mix.").prompt


@pytest.mark.parametrize("answer", ["Mix.</s>", "Mix.</s>\n", "Mix.</s></s>", "Mix.</s> </s>", "Mix."])
def test_eos_that_stands_in_the_text_is_not_doubled(answer):
    assert Encoder(TOKENIZERS["byte-level"])("How?", answer).answer == Encoder(TOKENIZERS["byte-level"])("How?", "Mix.").answer


def test_text_after_an_end_in_the_middle_is_not_lost():
    tokenizer = TOKENIZERS["byte-level"]
    found = Encoder(tokenizer)("How?", "Mix.</s>b")
    assert tokenizer.decode(found.answer) == "Mix.</s>b</s>"


def test_formatted_text_may_end_in_an_end_that_only_the_model_knows():
    tokenizer = TOKENIZERS["byte-level"]
    turn = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert Encoder(tokenizer)("How?", "Mix.<|eot_id|>").answer[-2:] == (turn, 1)
    assert Encoder(tokenizer, more_ends=(turn,))("How?", "Mix.<|eot_id|>").answer[-1] == turn


def test_a_prompt_without_tokens_is_refused_where_nothing_else_begins_the_row():
    with pytest.raises(ValueError, match="has no tokens"):
        Encoder(TOKENIZERS["byte-level without BOS"])("", "Mix.")
    assert Encoder(TOKENIZERS["byte-level"])("", "Mix.").prompt == (0,)


def test_half_a_character_is_refused():
    with pytest.raises(ValueError, match="lone surrogate"):
        Encoder(TOKENIZERS["byte-level"])("How \ud800?", "Mix.")


# Conversations.


@PLAIN
@given(st.data(), KIND, TEMPLATE, st.one_of(TEXT, st.just("")))
def test_conversations_begin_and_end_once(data, kind, template, answer):
    tokenizer = CHATS[kind, template]
    prompt = data.draw(conversations(template))
    found = Encoder(tokenizer)(prompt, answer)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    end = tokenizer.convert_tokens_to_ids(TURN_ENDS[template]) if template in TURN_ENDS else eos
    if bos is not None:
        written = template in ("llama3", "llama2", "gemma")
        assert (found.prompt[0] == bos) == (written or kind not in WITHOUT_BOS)
        assert bos not in found.prompt[1:2]
        turns = sum(message["role"] == "user" for message in prompt) if template == "llama2" else found.prompt[0] == bos
        if bos != eos:
            assert found.prompt.count(bos) == turns  # Llama 2 begins every turn of the user with one
    assert found.answer[-1] == end
    assert found.answer.count(end) == 1
    assert found.answer.count(eos) == (1 if end == eos else 0)
    assert end in Encoder(tokenizer).ends  # so that sampling stops there


@PLAIN
@given(st.data(), st.sampled_from([kind for kind in LOSSLESS if kind != "one token for both"]), TEMPLATE, TEXT)
def test_a_conversation_is_what_its_template_writes(data, kind, template, answer):
    tokenizer = CHATS[kind, template]
    prompt = data.draw(conversations(template))
    found = Encoder(tokenizer)(prompt, answer)
    before = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    begin = tokenizer.bos_token if begin_of(kind) and not before.startswith(tokenizer.bos_token) else ""
    assert tokenizer.decode(found.prompt) == begin + before
    whole = tokenizer.apply_chat_template([*prompt, says("assistant", answer)], tokenize=False)
    if template != "reasoning":
        joint = tokenizer.decode([*found.prompt, *found.answer])
        assert joint.removesuffix("</s>").rstrip("\n") == (begin + whole).removesuffix("</s>").rstrip("\n")


@PLAIN
@given(st.data(), KIND, TEMPLATE, TEXT, TEXT)
def test_the_boundary_does_not_move_in_a_conversation(data, kind, template, one, other):
    prompt = data.draw(conversations(template))
    encoder = Encoder(CHATS[kind, template])
    assert encoder(prompt, one).prompt == encoder(prompt, other).prompt == encoder.prompt(prompt).prompt


def test_a_template_that_writes_a_turn_in_another_way_than_it_opens_it():
    tokenizer = CHATS["byte-level", "reasoning"]
    found = Encoder(tokenizer)([says("user", "How?")], "I think.</think>Mix.")
    assert tokenizer.decode(found.prompt).endswith("<|im_start|>assistant\n<think>\n")
    assert tokenizer.decode(found.answer) == "I think.</think>Mix.<|im_end|>"


def test_an_answer_that_has_begun_is_continued():
    tokenizer = CHATS["byte-level", "chatml"]
    found = Encoder(tokenizer)([says("user", "How?"), says("assistant", "First")], " mix.")
    assert tokenizer.decode(found.prompt).endswith("<|im_start|>assistant\nFirst")
    assert tokenizer.decode(found.answer) == " mix.<|im_end|>"


def test_a_character_that_a_tokenizer_does_not_know_is_one_sentence():
    inner = Tokenizer(models.WordPiece({"how": 0, "</s>": 1}, unk_token="[UNK]"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    with pytest.raises(ValueError, match=r"tokenizer cannot encode 'why' \(.*UNK.*\)"):
        Encoder(tokenizer)("why", "how")


@pytest.mark.parametrize(
    ("template", "prompt", "message"),
    [
        (None, [says("user", "Hi")], "no chat template"),
        ("gemma", [says("system", "Be kind."), says("user", "Hi")], "refuses a conversation of system, user .System role not"),
        ("llama2", [says("user", "Hi"), says("user", "Hi")], "must alternate"),
        ("chatml", [], "without messages"),
    ],
)
def test_what_a_template_refuses_is_said_in_a_sentence(template, prompt, message):
    tokenizer = CHATS["byte-level", template] if template else TOKENIZERS["byte-level"]
    with pytest.raises(ValueError, match=message):
        Encoder(tokenizer)(prompt, "Hello")


def test_a_broken_template_harms_no_plain_text():
    tokenizer = chat("byte-level", "chatml")
    tokenizer.chat_template = "{{ messages[0].nothing.more }}"
    assert Encoder(tokenizer)("How?", "Mix.").answer[-1] == 1
    with pytest.raises(ValueError, match="refuses"):
        Encoder(tokenizer)([says("user", "How?")], "Mix.")


def test_a_conversation_with_an_implicit_prompt_is_the_explicit_one():
    turns = [says("system", "Be kind."), says("user", "How?"), says("assistant", "So."), says("user", "And then?")]
    sides = {"chosen": [*turns, says("assistant", "Mix.")], "rejected": [*turns, says("assistant", "No.")]}
    explicit = {"prompt": turns, "chosen": [says("assistant", "Mix.")], "rejected": [says("assistant", "No.")]}
    encoder = Encoder(CHATS["byte-level", "chatml"])
    assert encode_pair(pair_of(sides), encoder) == encode_pair(pair_of(explicit), encoder)


# Cuts.


@PLAIN
@given(KIND, st.integers(16, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_cuts_are_counted_and_keep_the_order_of_things(kind, max_length, prompt_words, one_words, other_words):
    tokenizer = TOKENIZERS[kind]
    texts = [" ".join(["flour", "water", "dough", "hour"][i % 4] for i in range(n)) for n in (prompt_words, one_words, other_words)]
    whole = Encoder(tokenizer, 10_000).together(texts[0], texts[1:])
    found = Encoder(tokenizer, max_length).together(texts[0], texts[1:])
    assert found[0].prompt == found[1].prompt
    for full, cut in zip(whole, found):
        assert len(cut.prompt) + len(cut.answer) <= max_length
        assert len(cut.prompt) + cut.prompt_cut == len(full.prompt)
        assert len(cut.answer) + cut.answer_cut == len(full.answer)
        assert cut.answer == full.answer[: len(cut.answer)]
        assert (cut.answer[-1] == tokenizer.eos_token_id) == (cut.answer_cut == 0)
        begin = begin_of(kind)
        assert cut.prompt[:begin] == full.prompt[:begin]
        assert full.prompt[begin:][::-1][: len(cut.prompt) - begin] == cut.prompt[begin:][::-1]  # cut from the left
        if cut.answer_cut:  # only where the prompt has given way
            assert len(cut.prompt) == min(len(full.prompt), max(8, max_length // 8))
        if cut.prompt_cut:  # and no prompt gives way without need
            assert len(cut.prompt) + max(len(e.answer) for e in found) == max_length


def test_the_oldest_turns_leave_first_and_the_system_message_stays():
    tokenizer = CHATS["byte-level", "chatml"]
    turns = [says("user", "first " * 9), says("assistant", "second " * 9), says("user", "third " * 9)]
    prompt = [says("system", "Be kind."), *turns]
    full = Encoder(tokenizer)(prompt, "Mix.")
    found = Encoder(tokenizer, len(full.prompt) - 5)(prompt, "Mix.")
    text = tokenizer.decode(found.prompt)
    assert text == "<s>" + tokenizer.apply_chat_template([prompt[0], turns[2]], tokenize=False, add_generation_prompt=True)
    assert found.prompt_cut == len(full.prompt) - len(found.prompt)
    assert tokenizer.decode(found.answer) == "Mix.<|im_end|>"
    shorter = Encoder(tokenizer, 40)(prompt, "Mix.")
    assert len(shorter.prompt) + len(shorter.answer) == 40
    assert shorter.prompt[0] == 0
    assert tokenizer.decode(shorter.prompt).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("template", ["llama2", "gemma", "llama3"])
def test_strict_templates_take_what_is_left_of_a_conversation(template):
    prompt = [says("assistant" if n % 2 else "user", f"turn {n} and some more words") for n in range(7)]
    full = Encoder(CHATS["byte-level", template])(prompt, "Mix.")
    found = Encoder(CHATS["byte-level", template], len(full.prompt) // 2)(prompt, "Mix.")
    text = CHATS["byte-level", template].decode(found.prompt)
    assert "turn 0" not in text
    assert "turn 6" in text
    assert found.prompt_cut > 0


def test_a_cut_answer_never_ends():
    tokenizer = TOKENIZERS["byte-level"]
    for length in range(16, 40):
        found = Encoder(tokenizer, length)("Hi", "a</s>" * 30)
        assert found.answer[-1] != 1
        assert found.answer_cut


# With a model.


def test_sampling_stops_at_every_end(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    tokenizer = byte_level()
    policy.tokenizer = tokenizer
    policy.model.resize_token_embeddings(len(tokenizer))
    turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    policy.model.generation_config.eos_token_id = [1, turn]
    assert policy.encoder().ends == (1, turn)
    policy.model.generation_config.eos_token_id = 1
    tokenizer.chat_template = TEMPLATES["chatml"]
    assert policy.encoder().ends == (1, turn)
    asked = {}
    original = policy.model.generate
    policy.model.generate = lambda **given: asked.update(given) or original(**given)
    sample_answers(policy, [[says("user", "How?")]], max_new_tokens=3)
    assert asked["generation_config"].eos_token_id == [1, turn]
    assert policy.encoder(10**9).max_length == policy.positions
