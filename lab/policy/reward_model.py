"""A Hugging Face reward model: a sequence classifier with one output, which scores answers where no oracle knows their worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import torch

from lab.policy.text.chat_template import ChatTemplate, now
from lab.policy.text.encoding import Prompt

from .loading import choose_device
from .sources import (
    ModelError,
    check_folder,
    check_weights,
    is_adapter,
    local_folder,
    read_configuration,
    read_tokenizer,
    read_weights,
)


def check_reward_model(source: str) -> None:
    """Raises ModelError in one sentence unless the configuration in `source` (a folder or hub id) is a reward model's.

    Cheap: of a folder files, names and shapes of weights are checked, of a hub id the configuration. A run asks before it starts.
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
        raise ModelError(f"{source} has {config.num_labels} outputs, and a reward model has one; give a model with num_labels = 1.")
    if folder is not None:
        from transformers import AutoModelForSequenceClassification

        with _of_reward_model(source):
            check_folder(folder)
            read_tokenizer(source)
            check_weights(AutoModelForSequenceClassification, source, config)


class RewardModel:
    """Scores answers. Weights come from safetensors alone and no code of the model's repository is run.

    Float32 on the CPU, bfloat16 on a GPU that knows it. Nothing of it is kept when it goes out of use. moment: the date and time
    that its chat template is told (default: the present). Raises ModelError.
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
        self._agree_on_padding(model)
        self.model: Any = model.to(self.device).eval()
        positions = int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31)
        self.max_length = min(positions, self.tokenizer.model_max_length)

    def _agree_on_padding(self, model: Any) -> None:
        """A decoder with a score head looks for the last token that is no padding, so both have to know which one that is."""
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.tokenizer.pad_token_id is None:
            raise ModelError(f"The tokenizer of the reward model {self.source} has no padding token; set pad_token in it.")
        model.config.get_text_config().pad_token_id = self.tokenizer.pad_token_id
        self.tokenizer.padding_side, self.tokenizer.truncation_side = "right", "left"  # the answer stands at the end

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[str],
        *,
        batch_size: int = 16,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[float]:
        """The model's output for `answers[i]` to `prompts[i]`, in its own unit; one number an answer.

        A conversation goes through the chat template of the model's own tokenizer; plain text is prompt and answer, one behind
        the other, with the special tokens the tokenizer adds. What is too long loses its beginning. progress(done, all) is
        called between batches and may raise.
        """
        ids = [self._ids(prompt, answer) for prompt, answer in zip(prompts, answers)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = [0.0] * len(ids)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            rows = self.tokenizer.pad({"input_ids": [ids[i] for i in chosen]}, return_tensors="pt").to(self.device)
            with torch.no_grad():
                logits = self.model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
            for i, value in zip(chosen, logits.float().squeeze(-1).tolist()):
                found[i] = value
            if progress is not None:
                progress(min(start + batch_size, len(order)), len(order))
        return found

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
                "give one that was trained on conversations."
            )
        text = self.template.render([*prompt, {"role": "assistant", "content": answer}])
        return self.tokenizer(text, add_special_tokens=False, truncation=True, max_length=self.max_length)["input_ids"]


@contextmanager
def _of_reward_model(source: str) -> Iterator[None]:
    """Inside, a refusal says that it is the reward model's. Raises ModelError."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"The reward model {source} cannot be loaded: {error}") from error
