"""The text with which chat templates close an assistant's turn ends answers in training and in sampling."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import torch
from tokenizers import AddedToken

from lab.policy import Encoder, load_policy, sample
from tests.tokenizers import CHATML, byte_level

SPECIAL, ORDINARY, ABSENT = "special", "ordinary", "absent"


def written(head: str, user: str, assistant: str, *, opens: str, begin: str = "", last: str = "") -> str:
    """A template: `user` and `assistant` around each content, `opens` for the answer, `last` behind the last message."""
    return (
        f"{begin}{{% for m in messages %}}{{% if m.role == 'assistant' %}}{assistant}{{% elif m.role == 'user' %}}{user}"
        f"{{% else %}}{head}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}{opens}{{% else %}}{last}{{% endif %}}"
    )


C = "{{ m.content }}"
PHI = written(
    f"<|system|>\n{C}<|end|>\n",
    f"<|user|>\n{C}<|end|>\n",
    f"<|assistant|>\n{C}<|end|>\n",
    opens="<|assistant|>\n",
    last="{{ eos_token }}",
)
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHANNELS = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
    "{{ m.content }}{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
COMMAND = written(f"<|T|><|S|>{C}<|END|>", f"<|T|><|U|>{C}<|END|>", f"<|T|><|A|><|R|>{C}<|ENDR|><|END|>", opens="<|T|><|A|><|R|>")
GENERATION = CHATML.replace(
    "{{ m['content'] }}<|im_end|>", "{% generation %}{{- m['content'] | trim -}}<|im_end|>{% endgeneration %}"
)
ONLY_BETWEEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}"
)

CASES: dict[str, tuple[str, list[str], str]] = {
    "ChatML": (CHATML, ["<|im_start|>", "<|im_end|>"], "Yes.<|im_end|>"),
    "generation markers": (GENERATION, ["<|im_start|>", "<|im_end|>"], "Yes.<|im_end|>"),
    "only between turns": (ONLY_BETWEEN, ["<|im_start|>", "<|im_end|>"], "Yes.<|im_end|>"),
    "Qwen 3": (QWEN3, ["<|im_start|>", "<|im_end|>", "<think>", "</think>"], "<think>\n\n</think>\n\nYes.<|im_end|>"),
    "Llama 3": (
        written(f"<|h|>s<|/h|>{C}<|eot|>", f"<|h|>u<|/h|>{C}<|eot|>", f"<|h|>a<|/h|>{C}<|eot|>", opens="<|h|>a<|/h|>"),
        ["<|h|>", "<|/h|>", "<|eot|>"],
        "Yes.<|eot|>",
    ),
    "Gemma": (
        written("", f"<sot>user\n{C}<eot>\n", f"<sot>model\n{C}<eot>\n", opens="<sot>model\n", begin="{{ bos_token }}"),
        ["<sot>", "<eot>", "\n"],
        "Yes.<eot>",
    ),
    "Phi": (PHI, ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], "Yes.<|end|>"),
    "Command R7B": (COMMAND, ["<|T|>", "<|S|>", "<|U|>", "<|A|>", "<|R|>", "<|ENDR|>", "<|END|>"], "Yes.<|ENDR|><|END|>"),
    "channels": (
        CHANNELS,
        ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"],
        "<|channel|>final<|message|>Yes.<|return|>",
    ),
}
"""Name -> template, the tokens that it needs, the completion."""

WITH_EOS = {
    "Llama 2": (written("", f"[INST] {C} [/INST]", f" {C} {{{{ eos_token }}}}", opens="", begin="{{ bos_token }}"), " Yes. </s>"),
    "Mistral 7": (
        written(f"[SYS]{C}[/SYS]", f"[INST] {C}[/INST]", f" {C}{{{{ eos_token }}}}", opens="", begin="{{ bos_token }}"),
        " Yes.</s>",
    ),
    "Zephyr": (
        written(f"<|s|>\n{C}</s>\n", f"<|u|>\n{C}</s>\n", f"<|a|>\n{C}</s>\n", opens="<|a|>\n"),
        "Yes.</s>",
    ),
    "Vicuna": (written(f"{C} ", f"USER: {C} ", f"ASSISTANT: {C}</s>", opens="ASSISTANT:"), " Yes.</s>"),
    "DeepSeek": (
        written(C, f"<U>{C}", "<A>{{ m.content | trim }}{{ eos_token }}", opens="<A>", begin="{{ bos_token }}"),
        "Yes.</s>",
    ),
    "EOS behind the last turn alone": (
        written(f"{C}\n", f"u: {C}\n", f"a: {C}\n", opens="a: ", last="{{ eos_token }}"),
        "Yes.\n</s>",
    ),
    "no end": (written(f"{C}\n", f"u: {C}\n", f"a: {C}\n", opens="a: "), "Yes.\n</s>"),
}
"""Name -> template, the completion: turns that the tokenizer's EOS closes."""

AS_TEXT = {
    "ChatML": (CHATML, "Yes.<|im_end|>"),
    "Phi": (PHI.replace("{{ eos_token }}", "<|endoftext|>"), "Yes.<|end|>"),
    "hashes": (written(f"{C}###", f"u: {C}###", f"a: {C}###", opens="a: "), "Yes.###"),
    "EOS of another tokenizer": (written("", f"[INST] {C} [/INST]", f" {C} <eos>", opens="", begin=""), " Yes. <eos>"),
}
"""Name -> template whose marks this tokenizer reads as ordinary text, the completion."""

USER = {"role": "user", "content": "Do I?"}
PROMPTS = [
    [USER],
    [USER, {"role": "assistant", "content": "No."}, {"role": "user", "content": "And now?"}],
    [{"role": "system", "content": "Be kind."}, USER],
]


def tokenizer_with(template: str, tokens: list[str], kind: str) -> Any:
    tokenizer = byte_level(turns=[])
    tokenizer.add_tokens([AddedToken(t, special=kind == SPECIAL, normalized=False) for t in tokens], special_tokens=kind == SPECIAL)
    tokenizer.chat_template = template
    return tokenizer


def every_case() -> list[Any]:
    added = [
        pytest.param(template, tokens, kind, completion, id=f"{name} ({kind})")
        for name, (template, tokens, completion) in CASES.items()
        for kind in (SPECIAL, ORDINARY)
    ]
    eos = [pytest.param(template, [], SPECIAL, completion, id=name) for name, (template, completion) in WITH_EOS.items()]
    text = [
        pytest.param(template, [], ABSENT, completion, id=f"{name} as text") for name, (template, completion) in AS_TEXT.items()
    ]
    return [*added, *eos, *text]


@pytest.mark.parametrize(("template", "tokens", "kind", "completion"), every_case())
def test_an_answer_is_the_turn_that_its_template_writes(template, tokens, kind, completion):
    tokenizer = tokenizer_with(template, tokens, kind)
    encoder = Encoder(tokenizer)
    for prompt in PROMPTS:
        found = encoder(prompt, "Yes.")
        assert tokenizer.decode(found.answer) == completion
        before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        assert tokenizer.decode(found.prompt).removeprefix("<s>") == before.removeprefix("<s>")
        for double in (f"Yes.{completion.split('Yes.')[1].strip()}", "Yes.</s>"):
            again = tokenizer.decode(encoder(prompt, double).answer)
            assert again.count(completion.split("Yes.")[1].strip()) == 1
            assert not again.endswith("</s></s>")


@pytest.mark.parametrize(("template", "tokens", "kind", "completion"), every_case())
def test_sampling_stops_where_the_turn_ends(template, tokens, kind, completion, model_folder):
    """The model is made to write the answer, its end, and more behind it."""
    policy = load_policy(str(model_folder("llama")), device="cpu")
    policy.tokenizer = tokenizer = tokenizer_with(template, tokens, kind)
    policy.model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for prompt in PROMPTS[:2]:
        trained = policy.encoder()(prompt, "Yes.").answer
        script = [*trained, *tokenizer(" And more of it.", add_special_tokens=False)["input_ids"]]
        with scripted(policy.model, script):
            (answer,) = sample(policy, [prompt], max_new_tokens=len(script))[0]
            assert answer.ids == trained
            assert answer.ended
            assert answer.text == "Yes."
            (cut,) = sample(policy, [prompt], max_new_tokens=2)[0]
            assert not cut.ended
            assert cut.ids == trained[:2]


def test_an_end_of_several_tokens_is_found_however_it_is_divided(model_folder):
    """A model may write the end of a turn in other tokens than a tokenizer would, and merged with what comes behind it."""
    policy = load_policy(str(model_folder("llama")), device="cpu")
    policy.tokenizer = tokenizer = tokenizer_with(CHATML, [], ABSENT)
    policy.model.resize_token_embeddings(len(tokenizer) + 1, mean_resizing=False)
    single = [tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in "Yes.<|im_end|>\n\nuser"]
    with scripted(policy.model, single):
        one, plain = (given[0] for given in sample(policy, [[USER], "Do I?"], max_new_tokens=20))
    assert one.ids == tuple(single[: len("Yes.<|im_end|>")])
    assert (one.text, one.ended) == ("Yes.", True)
    assert not plain.ended  # plain text has no turns
    assert plain.text == "Yes.<|im_end|>\n\nuser"[:20]


def test_a_template_that_drops_the_answer_is_refused():
    tokenizer = tokenizer_with("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", [], ABSENT)
    with pytest.raises(ValueError, match="does not write the assistant's answer"):
        Encoder(tokenizer)([USER], "Yes.")


# The clock.


DATED = "{{ 'Today is ' + strftime_now('%A, %-d %B %Y, %H:%M') + '.\n' }}" + CHATML
OPTIONAL = (
    "{% if strftime_now is defined %}{% set today = strftime_now(format='%d %b %Y') %}{% else %}{% set today = '?' %}{% endif %}"
    "{% macro line() %}{{ today }} {{ strftime_now('%y') }}{% endmacro %}\n  {% if true %}\n[{{ line() }}]\n{% endif %}" + CHATML
)


@pytest.mark.parametrize(
    ("template", "first", "second"),
    [
        (DATED, "Today is Saturday, 3 February 2024, 04:05.", "Today is Friday, 31 December 1999, 23:59."),
        (OPTIONAL, "[03 Feb 2024 24]", "[31 Dec 1999 99]"),
    ],
)
def test_a_template_that_prints_the_date_prints_that_of_the_encoder(template, first, second):
    tokenizer = tokenizer_with(template, ["<|im_start|>", "<|im_end|>"], SPECIAL)
    moments = datetime(2024, 2, 3, 4, 5, 6), datetime(1999, 12, 31, 23, 59, 59)
    encoders = [Encoder(tokenizer, moment=moment) for moment in moments]
    for _ in range(2):  # in turn: neither moment is anybody else's
        for encoder, message in zip(encoders, (first, second)):
            found = encoder([USER], "Yes.")
            assert tokenizer.decode(found.prompt).removeprefix("<s>").startswith(message)
            assert tokenizer.decode(found.answer) == "Yes.<|im_end|>"
            assert encoder.template.prints_the_date
    assert not Encoder(tokenizer_with(CHATML, [], ABSENT)).template.prints_the_date


def test_the_fixed_template_writes_what_transformers_wrote_at_that_moment(monkeypatch):
    """Every format code, through transformers' own clock."""
    import string

    from transformers.utils import chat_template_utils

    codes = " ".join(f"%{flag}{letter}" for flag in ("", "-") for letter in string.ascii_letters if letter not in "s") + " 100%% %"
    tokenizer = tokenizer_with(f"\n  {{% if true %}}\n {{{{ strftime_now({codes!r}) }}}}\n  {{% endif %}}\n" + CHATML, [], ABSENT)
    moment = datetime(2024, 2, 3, 4, 5, 6)

    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(chat_template_utils, "datetime", Stopped)
    own = tokenizer.apply_chat_template([USER], tokenize=False)
    monkeypatch.undo()
    assert Encoder(tokenizer, moment=moment).template.render([USER]) == own
    tokenizer.chat_template = Encoder(tokenizer, moment=moment).template.fixed
    assert tokenizer.apply_chat_template([USER], tokenize=False) == own


def test_a_template_that_draws_at_random_is_refused():
    tokenizer = tokenizer_with("{{ ['a', 'b'] | random }}" + CHATML, [], ABSENT)
    with pytest.raises(ValueError, match="another text each time"):
        Encoder(tokenizer)([USER], "Yes.")


def test_a_template_that_draws_for_some_conversations_alone_is_refused_there():
    tokenizer = tokenizer_with("{% if messages[0].content | length > 20 %}{{ range(99) | random }}{% endif %}" + CHATML, [], ABSENT)
    assert Encoder(tokenizer)([USER], "Yes.").answer
    with pytest.raises(ValueError, match="another text each time"):
        Encoder(tokenizer)([{"role": "user", "content": "Do I, and if so, why?"}], "Yes.")


# Faults.


@pytest.mark.parametrize(
    "fault", ["{{ 1 / 0 }}", "{% for i in range(10 ** 9) %}{% endfor %}", "{{ {}.pop('a') }}", "{{ 'a'.index('b') }}"]
)
def test_any_error_of_a_template_is_one_sentence(fault):
    with pytest.raises(ValueError, match=r"refuses a conversation of user \(.+\)") as refusal:
        Encoder(tokenizer_with(fault + CHATML, [], ABSENT))([USER], "Yes.")
    assert type(refusal.value) is ValueError


def test_a_template_that_writes_the_answer_twice_is_refused():
    with pytest.raises(ValueError, match="more than once"):
        Encoder(tokenizer_with(written("", f"u {C}", f"a {C} or {C}", opens="a "), [], ABSENT))([USER], "Yes.")


def test_what_a_template_leaves_out_of_an_answer_is_kept():
    """Templates that take the reasoning out of every answer would have it trained without."""
    template = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")
    tokenizer = tokenizer_with(template, ["<|im_start|>", "<|im_end|>"], SPECIAL)
    for answer in ("<think>So.</think>Yes.", "Yes."):
        assert tokenizer.decode(Encoder(tokenizer)([USER], answer).answer) == f"{answer}<|im_end|>"


# BOS.


def opener() -> Any:
    """A tokenizer like SmolLM2's, whose BOS token opens every turn and which never adds it."""
    tokenizer = byte_level("<|im_start|>", "<|im_end|>", writes="nothing")
    tokenizer.chat_template = CHATML
    return tokenizer


def test_a_bos_that_the_tokenizer_never_writes_is_put_nowhere():
    tokenizer = opener()
    assert tokenizer.decode(Encoder(tokenizer)("How?", "Yes.").prompt) == "How?"
    found = Encoder(tokenizer)([USER], "Yes.")
    assert tokenizer.decode(found.prompt) == "<|im_start|>user\nDo I?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(found.answer) == "Yes.<|im_end|>"


def test_a_cut_conversation_begins_with_no_stray_opener():
    tokenizer = opener()
    text = tokenizer.decode(Encoder(tokenizer, 30)([{"role": "user", "content": "word " * 40}], "Yes.").prompt)
    assert text.count("<|im_start|>") == 1
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_a_bos_that_only_the_template_writes_stays_once_and_survives_a_cut():
    tokenizer = byte_level(writes="nothing")
    tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}" + CHATML
    for length in (1024, 40):
        found = Encoder(tokenizer, length)([{"role": "user", "content": "word " * 40}], "Yes.")
        assert found.prompt[0] == tokenizer.bos_token_id
        assert found.prompt.count(tokenizer.bos_token_id) == 1


class scripted:
    """While it lasts, the model gives all its probability to one sequence of tokens, whatever it has read."""

    def __init__(self, model: Any, script: list[int]) -> None:
        self.model, self.script, self.done = model, script, 0

    def __enter__(self) -> None:
        self.own, self.model.generate = self.model.generate, self.begin
        self.handle = self.model.register_forward_hook(self.hook)

    def __exit__(self, *_: Any) -> None:
        self.handle.remove()
        self.model.generate = self.own

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        self.done = 0
        return self.own(*args, **kwargs)

    def hook(self, _: Any, __: Any, output: Any) -> Any:
        output.logits = torch.full_like(output.logits, -1e9)
        output.logits[:, -1, self.script[min(self.done, len(self.script) - 1)]] = 0
        self.done += 1
        return output
