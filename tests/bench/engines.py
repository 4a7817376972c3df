"""The two engines as the GPU bench runs them: the same model, pairs and settings for `lab.train` and for TRL's DPOTrainer."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import lab  # first: it settles how idle threads wait, for both engines

import torch  # isort: skip

RANK, ALPHA, RATE, BETA = 16, 32.0, 1e-5, 0.1
SKIPPED = 3
"""Steps at the start of a run that are not timed."""

Row = dict[str, str]


@dataclass(frozen=True)
class Shape:
    """A Qwen2 shape."""

    vocabulary: int = 151_936
    hidden: int = 896
    intermediate: int = 4864
    layers: int = 24
    heads: int = 14
    kv_heads: int = 2

    @property
    def kv(self) -> int:
        return self.hidden * self.kv_heads // self.heads


@dataclass(frozen=True)
class Setting:
    """What both engines are told. mode: lora or full."""

    mode: str
    checkpointing: bool
    batch: int
    steps: int
    device: str

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"


@dataclass(frozen=True)
class Measured:
    """Seconds per pair of the training steps and of a reference computed ahead (0: it is in the steps); peaks in bytes, of what
    was taken from the card and of what tensors held of it."""

    step: float
    reference: float
    peak: int
    held: int
    note: str = ""

    @property
    def seconds(self) -> float:
        return self.step + self.reference


def make_model(folder: Path, shape: Shape, device: str) -> None:
    """Random weights, and a tokenizer of single bytes that writes no BOS, so that TRL and the lab agree on tokens."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={"</s>": 0} | {letter: i for i, letter in enumerate(alphabet, 1)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.Qwen2TokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>").save_pretrained(folder)
    config = transformers.Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        dtype="float32",
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.Qwen2ForCausalLM(config)
    model.save_pretrained(folder)


def make_rows(count: int, prompt: int, answer: int) -> list[Row]:
    """Pairs of random letters, a token each; every part between half and all of its longest length (an answer's end included)."""
    rng = torch.Generator().manual_seed(1)

    def text(most: int) -> str:
        length = int(torch.randint(most // 2, most + 1, (), generator=rng))
        return "".join(ascii_letters[i] for i in torch.randint(len(ascii_letters), (length,), generator=rng).tolist())

    return [{"prompt": text(prompt), "chosen": text(answer - 1), "rejected": text(answer - 1)} for _ in range(count)]


def run_lab(model: Path, rows: list[Row], setting: Setting) -> Measured:
    """One `lab.train`, in this thread."""
    ends: list[float] = []

    def on_step(step: int, scalars: dict[str, float]) -> None:
        synchronize(setting.device)
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as home:
        os.environ["LAB_HOME"] = os.environ["LAB_CACHE"] = home  # nothing is cached from the round before
        run = lab.train(
            objective={"name": "dpo", "beta": BETA},
            pairs=rows,
            model=model,
            steps=setting.steps,
            batch_size=setting.batch,
            learning_rate=RATE,
            lora_rank=RANK if setting.mode == "lora" else 0,
            lora_alpha=ALPHA,
            gradient_checkpointing=setting.checkpointing,
            device=setting.device,
            save_every=0,
            evaluate=False,  # looks at held-out pairs and sampled answers are no part of a step
            background=False,
            on_step=on_step,
        )
        if run.state != "finished":
            raise torch.OutOfMemoryError(run.error) if "memory" in (run.error or "") else RuntimeError(run.error)
        reference = run.events("reference")["detail"].iloc[0]["seconds"]
        layout = next(d for d in run.events("check")["detail"] if "layout" in d)
        note = f"{layout['layout']} rows, attention {layout['kernel'] or 'the model’s own'}"
    return Measured(per_pair(ends, setting.batch), reference / len(rows), *peaks(setting.device), note)


def run_trl(model: Path, rows: list[Row], setting: Setting, *, ahead: bool, liger: bool) -> Measured:
    """One training with TRL, the reference computed ahead of all steps or in each."""
    import datasets
    import peft
    import transformers
    import trl
    from transformers.models.qwen2 import modeling_qwen2

    ends: list[float] = []
    reference = 0.0

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize(setting.device)
            ends.append(time.perf_counter())

    class Timed(trl.DPOTrainer):
        def compute_ref_log_probs(self, *given: Any) -> Any:
            nonlocal reference
            synchronize(setting.device)
            began = time.perf_counter()
            found = super().compute_ref_log_probs(*given)
            synchronize(setting.device)
            reference += time.perf_counter() - began
            return found

    lora = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    flash = setting.gpu and importlib.util.find_spec("flash_attn") is not None
    attention = "flash_attention_2" if flash else "sdpa"
    with tempfile.TemporaryDirectory() as out, unpatched(modeling_qwen2):
        trainer: Any = Timed(
            str(model),
            args=trl.DPOConfig(
                output_dir=out,
                model_init_kwargs={
                    # A base below an adapter is never trained, so it needs no more; weights in training stay float32.
                    "dtype": "bfloat16" if setting.gpu and setting.mode == "lora" else "float32",
                    "attn_implementation": attention,
                },
                max_steps=setting.steps,
                per_device_train_batch_size=setting.batch,
                learning_rate=RATE,
                beta=BETA,
                max_length=None,
                precompute_ref_log_probs=ahead,
                padding_free=flash,
                use_liger_kernel=liger,
                gradient_checkpointing=setting.checkpointing,
                bf16=setting.gpu,
                use_cpu=not setting.gpu,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            peft_config=lora if setting.mode == "lora" else None,
            callbacks=[Clock()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    note = f"{attention}, padding-free {'on' if trainer.padding_free else 'off'}"
    found = Measured(per_pair(ends, setting.batch), reference / len(rows), *peaks(setting.device), note)
    trainer.accelerator.free_memory()
    return found


@contextlib.contextmanager
def unpatched(module: Any) -> Iterator[None]:
    """Afterwards a module holds what it held before: Liger replaces functions in it, for every model made later."""
    before = dict(vars(module))
    try:
        yield
    finally:
        vars(module).update(before)


def per_pair(ends: list[float], batch: int) -> float:
    """Seconds a pair in the steps that ended at these times, the first left out."""
    return (ends[-1] - ends[SKIPPED - 1]) / (batch * (len(ends) - SKIPPED))


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peaks(device: str) -> tuple[int, int]:
    """Bytes reserved and allocated at most since the counters were set back."""
    return (torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()) if device == "cuda" else (0, 0)
