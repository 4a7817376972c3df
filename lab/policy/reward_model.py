"""A Hugging Face reward model (a sequence classifier with one output) that scores answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import torch

from lab.policy.text.chat_template import ChatTemplate
from lab.policy.text.encoding import Prompt
from lab.policy.text.template_time import now

from .interruption import CountProgress
from .loading import choose_device
from .sources.adapter_source import is_adapter
from .sources.configuration import read_configuration
from .sources.files import check_folder, local_folder
from .sources.model_error import ModelError
from .sources.tokenizer_loading import read_tokenizer
from .sources.weight_loading import check_weights, read_weights


def check_reward_model(source: str) -> None:
    """Raise ModelError unless `source` (a folder or hub id) is a reward model.

    Reads no weights: of a folder, files, configuration, names and shapes of weights are checked, of a hub id the configuration.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    with _of_reward_model(source):
        folder = local_folder(source)
        if is_adapter(source):
            raise ModelError(f"{source} is an adapter; merge it into its base model with peft and give the merged model.")
        config = read_configuration(source)
    named = str((getattr(config, "architectures", None) or [""])[0])
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or not named.endswith("ForSequenceClassification"):
        raise ModelError(
            f"{source} is no reward model ({named or type(config).__name__}); "
            "give a sequence-classification model with one output, as trl's RewardTrainer makes."
        )
    if config.num_labels != 1:
        raise ModelError(f"{source} has {config.num_labels} outputs; give a reward model with one output (num_labels = 1).")
    if folder is not None:
        from transformers import AutoModelForSequenceClassification

        with _of_reward_model(source):
            check_folder(folder)
            read_tokenizer(source)
            check_weights(AutoModelForSequenceClassification, source, config)


class RewardModel:
    """A reward model that scores answers, in float32 on the CPU and in bfloat16 on a GPU that supports it.

    Weights are read from safetensors only, and no code of the model's repository is run.

    Args:
        source: Folder or hub id.
        device: As in `choose_device`.
        moment: Date and time that the chat template gets; by default now.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(self, source: str, *, device: str = "auto", moment: datetime | None = None) -> None:
        from transformers import AutoModelForSequenceClassification

        check_reward_model(source)
        self.source, self.device, self.moment = source, choose_device(device), moment or now()
        half = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        with _of_reward_model(source):
            self.tokenizer: Any = read_tokenizer(source)
            model = read_weights(
                AutoModelForSequenceClassification,
                source,
                read_configuration(source),
                dtype=torch.bfloat16 if half else torch.float32,
            )
        self._set_padding(model)
        self.model: Any = model.to(self.device).eval()
        positions = int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31)
        self.max_length = min(positions, self.tokenizer.model_max_length)

    def _set_padding(self, model: Any) -> None:
        """Give model and tokenizer the same padding token: a decoder with a score head reads its last token before the padding."""
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.tokenizer.pad_token_id is None:
            raise ModelError(f"The tokenizer of the reward model {self.source} has no padding token; set pad_token in it.")
        model.config.get_text_config().pad_token_id = self.tokenizer.pad_token_id
        self.tokenizer.padding_side, self.tokenizer.truncation_side = "right", "left"  # the answer is at the end

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[str],
        *,
        batch_size: int = 16,
        progress: CountProgress | None = None,
    ) -> list[float]:
        """Score `answers[i]` as answers to `prompts[i]`; one number per answer, in the unit of the model's output.

        A conversation is rendered with the chat template of the model's own tokenizer; plain text is prompt and answer joined, with
        the special tokens that the tokenizer adds. Texts that are too long are cut at their beginning.

        Args:
            prompts: Plain texts or conversations.
            answers: One per prompt.
            batch_size: Answers per forward pass.
            progress: Called between batches.
        """
        ids = [self._ids(prompt, answer) for prompt, answer in zip(prompts, answers)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        scores = [0.0] * len(ids)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            rows = self.tokenizer.pad({"input_ids": [ids[i] for i in chosen]}, return_tensors="pt").to(self.device)
            with torch.no_grad():
                logits = self.model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
            for i, value in zip(chosen, logits.float().squeeze(-1).tolist()):
                scores[i] = value
            if progress is not None:
                progress(min(start + batch_size, len(order)), len(order))
        return scores

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template of the model's own tokenizer."""
        return ChatTemplate(self.tokenizer, self.moment)

    def _ids(self, prompt: Prompt, answer: str) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer(prompt + answer, truncation=True, max_length=self.max_length)["input_ids"]
        if not getattr(self.tokenizer, "chat_template", None):
            raise ModelError(
                f"These pairs are conversations, but the reward model {self.source} has no chat template; "
                "give a reward model that was trained on conversations."
            )
        text = self.template.render([*prompt, {"role": "assistant", "content": answer}])
        return self.tokenizer(text, add_special_tokens=False, truncation=True, max_length=self.max_length)["input_ids"]


@contextmanager
def _of_reward_model(source: str) -> Iterator[None]:
    """Name the reward model in every ModelError raised inside the block."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"The reward model {source} cannot be loaded: {error}") from error
