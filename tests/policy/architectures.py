"""Random models of many architectures, and how the lab computes each of them against the model itself in float64.

    python -m tests.policy.architectures [--all] [kind ...]

prints the table as Markdown. --all: everything this version of transformers calls a causal language model and that can be built
small. Weights are eight times as large as transformers draws them, so that logits differ from token to token and a fault shows.
"""

from __future__ import annotations

import argparse
import contextlib
import time
import types
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lab.policy import LayoutCheck, ModelError, Policy, PromptAnswer, choose_layout
from lab.policy.checks.dropout import switch_dropout_off

VOCABULARY = 320
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd"), 32),
    **dict.fromkeys(
        ("intermediate_size", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_dim", "ffn_hidden_size", "d_ff", "d_inner"), 64
    ),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 256),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("head_dim", "rotary_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
}
"""Sizes by the names that configurations have for them; a configuration is given those it knows."""
STATE = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_chunk_size": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 16, "chunk_size": 16},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 32},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "bamba": {"attn_layer_indices": [1], **STATE},
    "falcon_h1": {**STATE, "mamba_d_ssm": 64},
    "deepseek_v3": {"head_dim": None, "num_key_value_heads": 4, "first_k_dense_replace": 1},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "ctrl": {"dff": 64},
}
"""What an architecture needs besides, so that both kinds of its layers are there and windows are shorter than the texts."""
LARGER, RECURRENT = 8.0, {"mamba": 2.0, "mamba2": 4.0, "falcon_mamba": 2.0, "rwkv": 2.0, "recurrent_gemma": 2.0}
"""Factors of the weights; smaller ones where a state that is carried along amplifies rounding."""
NAMES = """
llama qwen2 qwen3 mistral gemma gemma2 gemma3_text gemma3 phi phi3 gpt2 gpt_neo gpt_neox gptj gpt_bigcode gpt_oss
openai-gpt opt bloom biogpt xglm starcoder2 codegen ctrl cohere cohere2 olmo olmo2 olmoe granite stablelm falcon mpt
mixtral qwen2_moe qwen3_moe granitemoe deepseek_v3 afmoe mamba mamba2 falcon_mamba rwkv lfm2 recurrent_gemma jamba bamba
falcon_h1 qwen3_next llama4_text nemotron smollm3 exaone4 glm glm4 ernie4_5 helium persimmon arcee seed_oss diffllama
doge modernbert-decoder
"""
TRAINED = tuple(NAMES.split())
REFUSED = {
    "bert": "not causal",
    "roberta": "not causal",
    "rembert": "not causal",
    "xlnet": "not causal",
    "prophetnet": "not causal",
    "phimoe": "is random in training mode in model.layers.0.mlp.router",
    "bart": "a text alone never reaches",
    "mbart": "a text alone never reaches",
}
"""Kind -> words of the sentence."""


def configuration(kind: str, vocabulary: int = VOCABULARY, **more: Any) -> Any:
    """A small configuration of an architecture. Raises what transformers raises where there is none of this shape."""
    kinds = transformers.CONFIG_MAPPING[kind]
    special = {"vocab_size": vocabulary, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "gemma3":
        vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28}
        text = configuration("gemma3_text", vocabulary).to_dict()
        return kinds(text_config=text, vision_config=vision | {"patch_size": 14}, mm_tokens_per_image=4, **special)
    known = kinds().to_dict()
    small = {name: size for name, size in SMALL.items() if name in known and not isinstance(known[name], (list, dict))}
    return kinds(**small | special | SETTINGS.get(kind, {}) | more)


def make_random(kind: str, *, vocabulary: int = VOCABULARY, seed: int = 0, **more: Any) -> Any:
    """A random causal language model of an architecture, in training mode."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(configuration(kind, vocabulary, **more))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(RECURRENT.get(kind, LARGER))
    return model.train()


def texts() -> list[PromptAnswer]:
    """Three prompts, two answers to each."""
    rng = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, 300, (count,), generator=rng).tolist())

    return [
        PromptAnswer(prompt, ids(n))
        for prompt, answers in ((ids(30), (14, 23)), (ids(3), (1, 5)), (ids(19), (20, 9)))
        for n in answers
    ]


TOKENIZER = types.SimpleNamespace(pad_token_id=1, eos_token_id=1, all_special_ids=[0, 1])
CREDIT = torch.randn(6, 23, generator=torch.Generator().manual_seed(1))


def policy_of(model: Any) -> Policy:
    """A policy as `load_policy` makes it."""
    switch_dropout_off(model)
    policy = Policy(model.train(), TOKENIZER, torch.device("cpu"))
    policy.share_prompts()
    return policy


@contextlib.contextmanager
def in_float64(model: Any) -> Iterator[None]:
    """Inside, a model computes in float64 (experts one by one: their grouped products know no float64), in evaluation mode."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    model.double().eval()
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        model.float().train()


def one_by_one(model: Any, completions: Sequence[PromptAnswer]) -> list[Tensor]:
    """Log-probs [T] of each answer from the model's own logits, one text at a time."""
    rows = []
    for c in completions:
        ids = torch.tensor([[*c.prompt, *c.answer]])
        logps = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].log_softmax(-1)
        rows.append(logps[torch.arange(len(c.prompt) - 1, ids.shape[1] - 1), torch.tensor(c.answer)])
    return rows


def gradient(model: Any, rows: Sequence[Tensor]) -> Tensor:
    """Of the log-probs times CREDIT, with respect to all weights, float64."""
    total = sum((credit[: len(row)].to(row) * row).sum() for credit, row in zip(CREDIT, rows))
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(total, trained, allow_unused=True)  # type: ignore[arg-type]
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(trained, found)]).double()


@dataclass(frozen=True)
class Row:
    """What became of one architecture. difference: largest, in nats, of its log-probs in training from its own, one by one in
    float64.   gradient: the distance of their gradients, as a share.   spread: standard deviation of a logit over positions.
    refused: the sentence, or ""."""

    kind: str
    check: LayoutCheck | None = None
    difference: float = 0.0
    gradient: float = 0.0
    spread: float = 0.0
    seconds: float = 0.0
    refused: str = ""


def row_of(kind: str, model: Any = None) -> Row:
    """Check a random model of an architecture, and compare what the lab then computes with the model itself."""
    policy, completions = policy_of(make_random(kind) if model is None else model), texts()
    began = time.perf_counter()
    try:
        check = choose_layout(policy, completions[:4])
    except ModelError as error:
        return Row(kind, seconds=time.perf_counter() - began, refused=str(error))
    seconds = time.perf_counter() - began
    found = policy.logps(completions).logps
    own = [found[number, : len(c.answer)] for number, c in enumerate(completions)]
    ours = gradient(policy.model, own)
    policy.use_plain_rows()
    with in_float64(policy.model):
        exact = one_by_one(policy.model, completions)
        theirs = gradient(policy.model, exact)
        ids = torch.tensor([completions[0].prompt])
        spread = float(policy.model(input_ids=ids, use_cache=False).logits[0].detach().std(0).mean())
    difference = max(float((a.detach().double() - b.detach()).abs().max()) for a, b in zip(own, exact))
    return Row(kind, check, difference, float((ours - theirs).norm() / theirs.norm()), spread, seconds)


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [
        "| architecture | layout | logits | largest difference (nats) | gradient, relative | verdict |",
        "|---|---|---|---:|---:|---|",
    ]
    for row in rows:
        if row.check is None:
            lines.append(f"| {row.kind} | - | - | - | - | refused because {row.refused} |")
        else:
            why = f" ({row.check.reason})" if row.check.reason else ""
            numbers = f"{row.difference:.1e} | {row.gradient:.1e}"
            lines.append(f"| {row.kind} | {row.check.layout} | {row.check.logits} | {numbers} | equal to one-by-one float64{why} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*")
    options.add_argument("--all", action="store_true")
    given = options.parse_args()
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    kinds = given.kinds or (list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) if given.all else [*TRAINED, *REFUSED])
    rows, unbuilt = [], []
    for kind in kinds:
        try:
            model = make_random(kind)
            if sum(p.numel() for p in model.parameters()) > 5e6:
                raise ValueError("its configuration stays large")
            model.eval()(input_ids=torch.tensor([[2, 3, 4]]), use_cache=False)
        except Exception as error:
            unbuilt.append(f"{kind} ({type(error).__name__})")
            continue
        rows.append(row_of(kind, model.train()))
    print(markdown(rows))
    if unbuilt:
        print(f"\nNot built this small: {', '.join(unbuilt)}.")


if __name__ == "__main__":
    main()
