"""Model sources: check and read a model given as a folder, hub id, adapter or GGUF file."""

from .adapter_source import is_adapter
from .configuration import read_configuration, require_causal
from .converted import check_source, is_converted, is_gguf, loadable
from .files import check_folder, local_folder
from .model_error import ModelError, cause, model_errors
from .stored_adapters import with_adapter
from .tokenizer_loading import check_special_tokens, read_tokenizer
from .weight_loading import check_weights, read_weights

__all__ = [
    "ModelError",
    "cause",
    "check_folder",
    "check_source",
    "check_special_tokens",
    "check_weights",
    "is_adapter",
    "is_converted",
    "is_gguf",
    "loadable",
    "local_folder",
    "model_errors",
    "read_configuration",
    "read_tokenizer",
    "read_weights",
    "require_causal",
    "with_adapter",
]
