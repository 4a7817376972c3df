"""The model in training: loading, adapters, tokens, log-probs, the reference cache, sampling."""

from .check import ensure_right_head
from .loading import Lora, ModelError, Policy, choose_device, load_policy, load_trained
from .logps import Completion, CompletionLogps, completion_logps
from .reference import ReferenceCache
from .sampling import sample_answers
from .tokens import Encoded, Encoder, Prompt

__all__ = [
    "Completion",
    "CompletionLogps",
    "Encoded",
    "Encoder",
    "Lora",
    "ModelError",
    "Policy",
    "Prompt",
    "ReferenceCache",
    "choose_device",
    "completion_logps",
    "ensure_right_head",
    "load_policy",
    "load_trained",
    "sample_answers",
]
