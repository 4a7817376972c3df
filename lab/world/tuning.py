"""Train the world's tokenizer and its tiny model, by supervised tuning on answers of mixed quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from .spec import WorldSpec

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
LONGEST = 256
"""Maximum tokens of prompt and answer together."""

Row = tuple[int, list[int]]
"""(tokens before the answer, token ids of [BOS] prompt answer [EOS])."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of at most `vocabulary` entries that puts BOS before every text; it can encode every string."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def make_model(spec: WorldSpec, vocabulary: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make a float32 Llama of the spec's size with random weights and tied embeddings."""
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=spec.width,
        intermediate_size=spec.width * 3,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        initializer_range=0.04,
        use_cache=True,
        dtype="float32",
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, max_new_tokens=LONGEST // 2, **special)
    return model


def tune(
    spec: WorldSpec,
    demonstrations: Iterator[tuple[str, str]],
    tokenizer: PreTrainedTokenizerFast,
    progress: Callable[[float], None],
) -> tuple[LlamaForCausalLM, list[float]]:
    """Tune a new model on demonstrations for `spec.sft_steps` AdamW steps; returns it with the loss of each step (nats per token).

    Every demonstration is used once. The same spec gives the same weights on the same machine; the global generator and the
    number of threads are restored.
    """
    with _repeatable(spec.seed):
        model = make_model(spec, len(tokenizer), tokenizer)
        model.train()
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim == 1]
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": spec.sft_weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=spec.sft_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        losses: list[float] = []
        for batch in _batches(demonstrations, tokenizer, spec):
            for group in optimizer.param_groups:
                group["lr"] = spec.sft_rate * _schedule(len(losses), spec.sft_steps)
            loss = _loss(model, batch, tokenizer.pad_token_id)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            progress(len(losses) / spec.sft_steps)
        model.eval()
    return model, losses


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save model and tokenizer as an ordinary model folder for AutoModelForCausalLM and AutoTokenizer."""
    transformers_logging.disable_progress_bar()  # building the world reports its own progress
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.set_num_threads(THREADS)
            torch.use_deterministic_algorithms(True)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)


THREADS = 2
"""Fixed number of threads, because the order of additions, and so the last bit of the weights, depends on it."""


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over 3 % of the steps, then cosine decay to 0."""
    warmup = max(1, round(0.03 * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _batches(demonstrations: Iterator[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, spec: WorldSpec) -> Iterator[list[Row]]:
    """Yield `spec.sft_steps` batches of rows of similar length: eight at a time are drawn, sorted by length and shuffled."""
    left = spec.sft_steps
    while left:
        count = min(8, left)
        rows = sorted(_rows(list(islice(demonstrations, count * spec.sft_batch)), tokenizer), key=lambda row: len(row[1]))
        for number in torch.randperm(count).tolist():
            yield rows[number * spec.sft_batch : (number + 1) * spec.sft_batch]
        left -= count


def _rows(examples: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    prompts = tokenizer([prompt for prompt, _ in examples], add_special_tokens=False)["input_ids"]
    answers = tokenizer([answer for _, answer in examples], add_special_tokens=False)["input_ids"]
    return [
        (len(prompt) + 1, [tokenizer.bos_token_id, *prompt, *answer, tokenizer.eos_token_id])
        for prompt, answer in zip(prompts, answers)
    ]


def _loss(model: LlamaForCausalLM, batch: Sequence[Row], pad: int) -> Tensor:
    """Mean cross-entropy (nats) of the answer tokens, end of sequence included.

    Rows are padded on the right, so causal attention needs no mask.
    """
    width = max(len(row) for _, row in batch)
    ids = torch.full((len(batch), width), pad)
    targets = torch.full((len(batch), width - 1), -100)
    for number, (start, row) in enumerate(batch):
        ids[number, : len(row)] = torch.tensor(row)
        targets[number, start - 1 : len(row) - 1] = ids[number, start : len(row)]
    answer = targets != -100
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return cross_entropy(model.lm_head(hidden[answer]), targets[answer])
