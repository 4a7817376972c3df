"""Small tokenizers of every kind that language models have, and chat templates of the shapes they come with."""

from __future__ import annotations

import copy
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

CORPUS = [
    "How do I bake bread? First mix the flour and the water, then knead the soft dough.\nWait an hour. [INST] user assistant"
] * 9
TURNS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]


def byte_level(
    bos: str | None = "<s>", eos: str = "</s>", *, prefix_space: bool = False, writes: str = "bos", turns: list[str] | None = None
) -> Any:
    """Byte-level BPE as GPT-2, Llama 3 and Qwen have it. writes: what its post-processor adds by itself: bos, both or nothing.
    turns: further special tokens (None: those of the templates below)."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    inner.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(token for token in (bos, eos) if token))
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    if writes != "nothing" and bos:
        _write(inner, f"{bos} $A {eos}" if writes == "both" else f"{bos} $A", special)
    return _wrapped(inner, bos, eos, turns)


def unsplit_bytes() -> Any:
    """BPE over bytes that first splits nothing, so that it merges across any boundary."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator([*CORPUS, "x\n\nFirst mix", "bread?\nFirst", "\nFirst knead"], trainer)
    return _wrapped(inner, None, "</s>")


def metaspace(scheme: str = "always") -> Any:
    """A Unigram model that writes a space as ▁ and puts one before what it reads, as Llama 2, Mistral and T5 have it."""
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=240,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        initial_alphabet=[*map(chr, range(33, 127)), "\n", "▁"],
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    _write(inner, "<s> $A", ["<s>"])
    return _wrapped(inner, "<s>", "</s>", unk_token="<unk>")


def whole_words() -> Any:
    """A word a token; other words are unknown. It names a BOS and never writes it."""
    inner = Tokenizer(models.WordLevel(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    return _wrapped(inner, "<s>", "</s>", unk_token="<unk>")


def _write(inner: Tokenizer, single: str, special: list[str]) -> None:
    """Let a tokenizer put special tokens around every text that it reads."""
    ids = [(token, inner.token_to_id(token)) for token in special]
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)


def _wrapped(inner: Tokenizer, bos: str | None, eos: str, turns: list[str] | None = None, **more: str) -> Any:
    further = TURNS if turns is None else turns
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token=eos, additional_special_tokens=further, **more
    )


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token }}[INST] {{ (system if loop.first else '') + m['content'] | trim }} [/INST]"
    "{% else %} {{ m['content'] | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
REASONING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'].split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
BARE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)

HERMES = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|im_start|>assistant\n{% generation %}"
    "{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }}</think>{% endif %}"
    "{% if m['content'] %}{{ m['content'] }}{% endif %}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>{{ c['function'] | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>{% endgeneration %}\n"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Writes tools, tool calls and reasoning, and marks what the assistant writes."""

TEMPLATES = {
    "hermes": HERMES,
    "chatml": CHATML,
    "llama3": LLAMA3,
    "llama2": LLAMA2,
    "gemma": GEMMA,
    "reasoning": REASONING,
    "bare": BARE,
}
"""Name -> template. Their turns end in <|im_end|>, <|eot_id|>, EOS, <end_of_turn>, <|im_end|>, and nothing at all."""

TURN_ENDS = {
    "hermes": "<|im_end|>",
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "reasoning": "<|im_end|>",
}
"""Name -> what an answer ends in where that is not the tokenizer's EOS."""

TOKENIZERS = {
    "byte-level": byte_level(),
    "byte-level without BOS": byte_level(None),
    "byte-level that writes no BOS": byte_level(writes="nothing"),
    "one token for both": byte_level("<|endoftext|>", "<|endoftext|>", writes="nothing"),
    "byte-level that adds both": byte_level(writes="both"),
    "byte-level with a space before": byte_level(prefix_space=True),
    "bytes never split": unsplit_bytes(),
    "metaspace always": metaspace("always"),
    "metaspace first": metaspace("first"),
    "whole words": whole_words(),
}

WITHOUT_BOS = ("byte-level without BOS", "byte-level that writes no BOS", "one token for both", "bytes never split", "whole words")
"""Kinds that put no BOS before a text, whether or not they name one."""


def chat(kind: str, template: str) -> Any:
    """A tokenizer of a kind with a chat template of a shape."""
    tokenizer = copy.deepcopy(TOKENIZERS[kind])
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer
