"""Tiny random models of many shapes, in local folders that transformers loads like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from lab.policy import Policy, load_policy
from lab.policy.sources.adapter_source import adapter_base, is_adapter
from lab.policy.sources.stored_adapters import with_adapter

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows every string, and writes BOS before it as Llama's does."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(["How do I bake bread? First mix the flour and the water, then knead the soft dough."] * 5, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bpe.token_to_id("<s>"))])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


def configuration(kind: str, vocabulary: int) -> transformers.PretrainedConfig:
    """A small configuration of an architecture."""
    special = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    if kind == "gpt2":
        return transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **special)
    if kind == "gpt_neox":
        small = {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}
        return transformers.GPTNeoXConfig(**small, **special)
    kinds: dict[str, Any] = {
        "llama": transformers.LlamaConfig,
        "qwen2": transformers.Qwen2Config,
        "qwen3": transformers.Qwen3Config,
        "mistral": transformers.MistralConfig,
        "gemma2": transformers.Gemma2Config,
        "phi3": transformers.Phi3Config,
    }
    extra = {"mistral": {"sliding_window": 16}, "gemma2": {"head_dim": 8, "sliding_window": 16}, "qwen3": {"head_dim": 8}}.get(
        kind, {}
    )
    return kinds[kind](**SMALL, **special, **extra)


KINDS = ("llama", "qwen2", "gpt2", "qwen3", "mistral", "gemma2", "phi3", "gpt_neox")


def make_model(kind: str, folder: Path, seed: int = 0) -> None:
    """Write a random model of a kind and its tokenizer to a folder. Weights are larger than usual, so that logits differ."""
    message = tokenizer()
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(configuration(kind, len(message)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    message.save_pretrained(folder)


def make_reward_model(folder: Path, kind: str = "llama", *, labels: int = 1, seed: int = 0) -> None:
    """Write a random reward model, a sequence classifier with one output, and its tokenizer to a folder."""
    message = tokenizer()
    torch.manual_seed(seed)
    config = configuration(kind, len(message))
    config.num_labels = labels
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    message.save_pretrained(folder)


def multimodal(folder: Path) -> None:
    """Gemma 3 with its vision tower, tiny."""
    message = tokenizer()
    text = SMALL | {"vocab_size": len(message) + 8, "head_dim": 8, "sliding_window": 16}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    whole = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=len(message) + 1,
        boi_token_index=len(message) + 2,
        eoi_token_index=len(message) + 3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    transformers.Gemma3ForConditionalGeneration(whole).save_pretrained(folder)
    message.save_pretrained(folder)


def load_trained(folder: Path) -> Policy:
    """Load the policy of a checkpoint on the CPU: a whole model, or an adapter on its base."""
    if not is_adapter(str(folder)):
        return load_policy(str(folder), device="cpu")
    base = load_policy(adapter_base(folder, download=True), device="cpu")
    model = with_adapter(base.model, folder, trainable=True)
    return Policy(model, base.tokenizer, base.device, base.fingerprint, True, base.autocast, base.shared)
