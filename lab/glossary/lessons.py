"""The lessons in `notebooks/`, and the terms of the glossary that each explains."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lesson:
    """A notebook.

    Attributes:
        number: Its number.
        title: Its subject.
        terms: Names of the glossary's entries that it explains.
    """

    number: int
    title: str
    terms: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Short name, as in "lesson 04"."""
        return f"lesson {self.number:02d}"


LESSONS = (
    Lesson(1, "A first run", ("learning_rate", "epoch", "num_tokens", "held_out", "evaluation")),
    Lesson(
        2,
        "From Bradley-Terry to DPO",
        (
            *("policy", "reference", "prompt", "chosen", "rejected", "beta", "credit"),
            *("loss", "logit", "log_ratio", "log_ratio_chosen", "log_ratio_rejected", "d_log_x1", "d_log_x2"),
            *("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "margin"),
        ),
    ),
    Lesson(
        3,
        "Gradient imbalance and likelihood displacement",
        ("ratio", "log_space_ratio", "logps/chosen", "logps/rejected", "norm_chosen", "norm_rejected", "cosine"),
    ),
    Lesson(
        4,
        "SGDPO: pilots and the three theorems",
        ("pilot", "pilot_chosen", "pilot_rejected", "logit_chosen", "logit_rejected", "weight_chosen", "weight_rejected"),
    ),
    Lesson(5, "From SimPO to AlphaDPO", ("target_margin", "gap", "z")),
    Lesson(6, "SPO: degrees and the degree head", ("loss_align", "loss_degree", "degree", "degree_accuracy", "rank_correlation")),
    Lesson(
        7,
        "Reading curves: name the fault",
        ("grad_norm", "eval/kl", "eval/oracle_reward", "eval/valid", "eval/completions/mean_length"),
    ),
    Lesson(8, "Inspect and repair a data set", ("confidence", "variability", "held_out_margin", "probability")),
    Lesson(9, "An objective of your own"),
    Lesson(10, "From the tiny model to a real one"),
)
"""All lessons, in their order."""

_BY_TERM = {term: lesson for lesson in LESSONS for term in lesson.terms}


def lesson_of(term: str) -> Lesson | None:
    """Return the lesson that explains a term of the glossary, given its name; None if none does."""
    return _BY_TERM.get(term) or _BY_TERM.get(term.removeprefix("eval/"))
