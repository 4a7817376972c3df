"""Model sources: what a person names as a model (folder, hub id, adapter, GGUF file), checked and read."""

from .configuration import read_configuration, require_causal
from .converted import check_source, is_adapter, is_converted, is_gguf, loadable
from .errors import ModelError, cause, refusing
from .files import check_folder, local_folder
from .stored_adapters import with_adapter
from .tokenizer import check_special_tokens, read_tokenizer
from .weights import check_weights, read_weights

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
    "read_configuration",
    "read_tokenizer",
    "read_weights",
    "refusing",
    "require_causal",
    "with_adapter",
]
