"""Questions to a run's model that leave the run alone: what would it say of another text, what would a step on one pair do?

model = lab.examine(run)                             # at its latest checkpoint; lab.examine(run, 100), lab.examine(run, "now")
model.score([pair, edited]).terms                    # every term of the objective, and in .tokens the credit of every token
model.virtual_step(pair, sample=200).changes         # what one step on this pair does to all others: measured, then rolled back
"""

from .errors import WhatIfError
from .examined import Examined, Scored
from .now import checkpoint_now
from .opening import examine, free, kept, openable
from .tokenizer import tokenizer_of
from .virtual import OPTIMIZERS, VirtualStep

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
