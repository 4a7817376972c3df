"""Examine a run's model at a checkpoint without changing the run: score any text, or take a virtual step on one pair.

model = lab.examine(run)                             # at the latest checkpoint; or lab.examine(run, 100), lab.examine(run, "now")
model.score([pair, edited]).terms                    # every term of the objective; .tokens has the credit of every token
model.virtual_step(pair, sample=200).changes         # the effect of one step on this pair on all others, then rolled back
"""

from .examined import Examined, Scored
from .now import checkpoint_now
from .open_checkpoint import examine, free, kept, openable
from .tokenizer import tokenizer_of
from .virtual import OPTIMIZERS, VirtualStep
from .whatif_error import WhatIfError

__all__ = [
    "OPTIMIZERS",
    "Examined",
    "Scored",
    "VirtualStep",
    "WhatIfError",
    "checkpoint_now",
    "examine",
    "free",
    "kept",
    "openable",
    "tokenizer_of",
]
