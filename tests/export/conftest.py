"""Runs to export, trained for a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import lab
from lab.run.handle import Run

TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"


@pytest.fixture
def trained(rows: list[dict[str, str]], model_folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Run]:
    """trained(objective, **settings) is a finished run of four steps on fifty pairs."""

    def train(objective: Any = "dpo", pairs: Any = None, model: Any = None, **settings: Any) -> Run:
        few = {
            "steps": 4,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "save_every": 2,
            "device": "cpu",
            "probe_budget": 0,
            "evaluate": False,
        }
        run = lab.train(
            objective, rows if pairs is None else pairs, model or model_folder("llama"), background=False, **few | settings
        )
        assert run.state == "finished", run.error
        return run

    return train


@pytest.fixture
def chat_model(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model folder as instruction-tuned models are: BOS from the tokenizer itself, a chat template, a generation config."""
    folder = tmp_path / "chat-model"
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    model.generation_config = GenerationConfig(max_new_tokens=7, do_sample=True, temperature=0.7)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
