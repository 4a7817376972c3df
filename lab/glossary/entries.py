"""Entries of the glossary: concepts, recorded numbers, values of tokens and quantities of a field.

Symbols are those of the papers: x is the prompt, y_w the chosen and y_l the rejected answer, π the policy, ref the reference,
sg the stop-gradient.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One term of the glossary.

    Attributes:
        title: Readable name.
        symbol: Symbol as in the papers.
        meaning: One sentence.
        unit: Unit, or "" if it has none.
    """

    title: str
    symbol: str
    meaning: str
    unit: str = ""

    @property
    def axis(self) -> str:
        """Axis title: the symbol and, if there is one, the unit."""
        return f"{self.symbol} [{self.unit}]" if self.unit else self.symbol

    @property
    def label(self) -> str:
        """Table label: the title and, if there is one, the unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title


CONCEPTS = {
    "policy": Entry("Policy", "π", "The model that is trained."),
    "reference": Entry("Reference", "ref", "A frozen copy of the model as it was before training; log-ratios compare with it."),
    "prompt": Entry("Prompt", "x", "The text that both answers of a pair reply to."),
    "chosen": Entry("Chosen answer", "y_w", "The preferred answer of a pair."),
    "rejected": Entry("Rejected answer", "y_l", "The answer of a pair that is not preferred."),
    "beta": Entry("Beta", "β", "Scale of the implicit reward: the larger, the closer the policy is held to the reference."),
    "credit": Entry(
        "Token credit",
        "−∂L/∂log π(y_t)",
        "How strongly the loss pushes the log-prob of one token: above 0 up, below 0 down; the model's gradient starts from it.",
    ),
    "held_out": Entry("Held-out pairs", "held out", "Pairs that are never trained on; evaluations measure the objective on them."),
    "evaluation": Entry(
        "Evaluation", "eval", "A measurement on held-out pairs and on answers sampled for held-out prompts, every eval_every steps."
    ),
    "panel": Entry(
        "Panel",
        "panel",
        "A few fixed held-out pairs whose chosen, rejected and greedy answers are scored at and between evaluations.",
    ),
    "probe": Entry("Probe", "probe", "An extra measurement within a time budget: the gradient by layer, or the panel."),
    "virtual_step": Entry(
        "Virtual step", "Δ", "A training step on one pair that is computed and undone, to see how it changes all other pairs."
    ),
}
"""Concepts that are not recorded numbers, by the name used in code and settings."""

_PAIR = {
    "loss": Entry(
        "Loss",
        "L",
        "The objective's loss of a pair, or its mean over the batch; the optimizer weights the pairs, this number does not.",
        "nats",
    ),
    "logit": Entry(
        "Logit",
        "z",
        "The argument of the sigmoid: the larger, the more the policy prefers the chosen answer; for SGDPO (z₁ + z₂)/2.",
    ),
    "logit_chosen": Entry(
        "Logit of the chosen side",
        "z₁",
        "The logit of the chosen side; SGDPO: z₁ = β(log X₁ − sg[log Y₂]), the whole chosen answer against the rejected pilot.",
    ),
    "logit_rejected": Entry(
        "Logit of the rejected side",
        "z₂",
        "The logit of the rejected side; SGDPO: z₂ = β(sg[log Y₁] − log X₂), the chosen pilot against the whole rejected answer.",
    ),
    "log_ratio_chosen": Entry(
        "Log-ratio of the chosen answer",
        "log X₁",
        "log π(y_w|x) − log ref(y_w|x), summed over the answer's tokens: above 0 it became more likely.",
        "nats",
    ),
    "log_ratio_rejected": Entry(
        "Log-ratio of the rejected answer",
        "log X₂",
        "log π(y_l|x) − log ref(y_l|x), summed over the answer's tokens: below 0 it became less likely.",
        "nats",
    ),
    "pilot_chosen": Entry(
        "Pilot of the chosen answer",
        "log Y₁",
        "SGDPO's pilot: the log-ratio summed over randomly drawn tokens of y_w; it guides the rejected side.",
        "nats",
    ),
    "pilot_rejected": Entry(
        "Pilot of the rejected answer",
        "log Y₂",
        "SGDPO's pilot: the log-ratio summed over randomly drawn tokens of y_l; it guides the chosen side.",
        "nats",
    ),
    "target_margin": Entry(
        "Target margin",
        "γ + α M*",
        "The margin that the objective requires of this pair; α-DPO sets one per pair, from the z-score M* of its gap.",
    ),
    "gap": Entry(
        "Gap",
        "M/β",
        "α-DPO: how much further apart the two answers are under the policy than under the reference; its z-score sets the margin.",
        "nats/token",
    ),
    "z": Entry("z-score of the gap", "M*", "α-DPO: (M − mean)/std, how unusual a pair's gap is; at 0 the target margin is γ."),
    "weight_chosen": Entry(
        "Weight of the chosen answer",
        "−∂L/∂log π(y_w)",
        "Mean token credit of y_w: how strongly the loss pushes its tokens up, for every objective.",
        "1/token",
    ),
    "weight_rejected": Entry(
        "Weight of the rejected answer",
        "∂L/∂log π(y_l)",
        "Mean token credit of y_l with its sign reversed: how strongly the loss pushes its tokens down, for every objective.",
        "1/token",
    ),
    "pair_weight": Entry(
        "Weight of the pair",
        "c",
        "WPO: how likely both answers are under the policy; pairs that the policy would not generate count less.",
    ),
    "nll": Entry(
        "Likelihood term",
        "−avg log π(y_w)",
        "The negative log-likelihood of the chosen answer that the objective adds (CPO, ORPO).",
        "nats/token",
    ),
    "loss_align": Entry("Alignment loss", "L_align", "SPO: the loss of the objective that it wraps.", "nats"),
    "loss_degree": Entry(
        "Preference-degree loss",
        "L_PD",
        "SPO: cross-entropy of the head that predicts how much of an answer's key content was removed.",
        "nats",
    ),
    "degree": Entry("Degree", "E[k]", "SPO: the expected degree of degradation predicted by the head; 0 is an intact answer."),
    "degree_accuracy": Entry(
        "Accuracy of the degree head", "acc(k)", "SPO: share of the degraded answers whose degree the head predicts correctly."
    ),
    "rank_correlation": Entry(
        "Degree against implicit reward",
        "ρ",
        "SPO: Spearman's rank correlation of an answer's degree with its log-ratio; −1 means the reward falls with every removal.",
    ),
}

_SIDES = {
    "rewards/chosen": Entry(
        "Reward of the chosen answer",
        "r(x, y_w)",
        "The implicit reward β log X₁; without a reference β times the (average) log-prob of y_w.",
    ),
    "rewards/rejected": Entry(
        "Reward of the rejected answer",
        "r(x, y_l)",
        "The implicit reward β log X₂; without a reference β times the (average) log-prob of y_l.",
    ),
    "logps/chosen": Entry(
        "Log-prob of the chosen answer", "log π(y_w|x)", "Log-probability of y_w under the policy, summed over its tokens.", "nats"
    ),
    "logps/rejected": Entry(
        "Log-prob of the rejected answer",
        "log π(y_l|x)",
        "Log-probability of y_l under the policy, summed over its tokens.",
        "nats",
    ),
}

_RUN = {
    "margin": Entry(
        "Reward margin of the pair",
        "r(x, y_w) − r(x, y_l)",
        "Reward of the chosen answer of this pair minus that of the rejected one; below 0 the policy ranks the pair wrongly.",
    ),
    "rewards/margins": Entry(
        "Reward margin", "r(x, y_w) − r(x, y_l)", "Reward of the chosen answer minus that of the rejected one, mean over the batch."
    ),
    "rewards/accuracies": Entry(
        "Accuracy", "P(r_w > r_l)", "Share of the pairs whose chosen answer has the larger reward; 0.5 is chance.", "share"
    ),
    "grad_norm": Entry("Gradient norm", "‖g‖", "Norm of the whole gradient before clipping."),
    "learning_rate": Entry("Learning rate", "η", "AdamW's step size at this step of the schedule."),
    "epoch": Entry("Epoch", "epoch", "How many times the run has gone through the pair set."),
    "num_tokens": Entry("Answer tokens", "tokens", "Answer tokens trained on since the start, both sides.", "tokens"),
    "pairs_per_second": Entry(
        "Throughput",
        "pairs/s",
        "Pairs trained per second, averaged over about ten steps; pauses and evaluations do not count.",
        "pairs/s",
    ),
    "seconds/trained": Entry(
        "Time trained",
        "t",
        "Seconds that the steps took, those of the parent of a branch included; evaluations, pauses and waiting do not count.",
        "s",
    ),
    "seconds/clock": Entry(
        "Time since the run began", "t", "Seconds since the run began; evaluations, pauses and waiting count.", "s"
    ),
    "probe_cost": Entry(
        "Cost of the probes",
        "share",
        "Time of the probes (gradient by layer, panel between evaluations) as a share of the time trained.",
        "share",
    ),
    "panel_seconds": Entry("Time to score the panel", "s", "Seconds that one scoring of the panel of held-out pairs took.", "s"),
    "norm_chosen": Entry(
        "Gradient of the chosen part", "‖g_w‖", "Norm of the layer's gradient that comes from the chosen answers alone."
    ),
    "norm_rejected": Entry(
        "Gradient of the rejected part", "‖g_l‖", "Norm of the layer's gradient that comes from the rejected answers alone."
    ),
    "cosine": Entry(
        "Cosine of the two parts",
        "cos(g_w, g_l)",
        "1: both sides change the layer in the same direction; −1: they cancel each other.",
    ),
    "update_ratio": Entry(
        "Update over weights",
        "‖Δθ‖/‖θ‖",
        "Norm of this step's update of the layer (with LoRA of the adapter, large at first because B starts at 0) over the norm of "
        "its weights; about 1/1000 is a rule of thumb for training from scratch, fine-tuning stays below it, and far above it the "
        "learning rate is too high.",
    ),
    "panel/chosen": Entry(
        "Panel: chosen answer",
        "log π(y_w|x)",
        "Log-probability of the chosen answer of a held-out pair under the policy; below its start it is displaced.",
        "nats",
    ),
    "panel/rejected": Entry(
        "Panel: rejected answer",
        "log π(y_l|x)",
        "Log-probability of the rejected answer of a held-out pair under the policy, which training pushes down.",
        "nats",
    ),
    "panel/greedy": Entry(
        "Panel: greedy answer",
        "log π(y*|x)",
        "Log-probability of the policy's own greedy answer y*, decoded anew each time; it rises while both others fall if the "
        "probability moves to what was most likely anyway.",
        "nats",
    ),
    "eval/oracle_reward": Entry(
        "Oracle reward of sampled answers",
        "R",
        "Mean reward from the oracle of the embedded world for freshly sampled answers to held-out prompts.",
    ),
    "eval/win_rate": Entry(
        "Win rate against the reference",
        "P(R > R_ref)",
        "How often a sampled answer has more reward than one of the reference to the same prompt; 0.5 at the start.",
        "share",
    ),
    "eval/valid": Entry("Valid answers", "share", "Share of the sampled answers that the oracle can parse as an answer.", "share"),
    "eval/reward": Entry("Reward of sampled answers", "r(x, y)", "Mean score from the reward model for freshly sampled answers."),
    "eval/kl": Entry(
        "Distance from the reference (KL)",
        "KL(π‖ref)",
        "KL divergence of the policy from the reference over whole answers, estimated on sampled ones.",
        "nats per answer",
    ),
    "eval/completions/mean_length": Entry(
        "Length of sampled answers", "tokens", "Mean number of tokens of the sampled answers, end-of-sequence included.", "tokens"
    ),
    "eval/completions/clipped_ratio": Entry(
        "Cut answers", "share", "Share of the sampled answers that did not end within eval_tokens tokens.", "share"
    ),
    "eval/repetition": Entry(
        "Repetition", "1 − distinct/all", "Share of an answer's 4-grams of words that occurred in it before.", "share"
    ),
}

TOKEN_VALUES = {
    "log_ratio": Entry(
        "Log-ratio",
        "log π(y_t) − log ref(y_t)",
        "Blue: the token is more likely under the policy than under the reference; orange: less likely.",
        "nats",
    ),
    "credit": Entry(
        "Credit",
        "−∂L/∂log π(y_t)",
        "Blue: the loss pushes this token up; orange: down; the gradient of the model starts from these numbers.",
    ),
    "pilot": Entry(
        "Pilot", "y_t in the pilot", "SGDPO: the tokens drawn at random; their log-ratios guide the other answer's side."
    ),
}
"""Values by which the tokens of a pair can be coloured."""

FIELD_QUANTITIES = {
    "loss": Entry("Loss", "L", "The loss of a pair at this point.", "nats"),
    "ratio": Entry(
        "Ratio of increase to decrease",
        "|∂L/∂X₁| / |∂L/∂X₂|",
        "How much more strongly the loss moves the chosen ratio than the rejected one (X₂/X₁ for DPO); above 1 (blue) it mostly "
        "teaches what to say, below 1 (orange) mostly what not to say.",
    ),
    "log_space_ratio": Entry(
        "Ratio of the pushes",
        "|∂L/∂log X₁| / |∂L/∂log X₂|",
        "How much more strongly the loss pushes the chosen log-prob than the rejected one; 1 everywhere for DPO.",
    ),
    "d_log_x1": Entry(
        "Derivative on the chosen side",
        "∂L/∂log X₁",
        "How the loss changes with the chosen log-ratio; negative (blue): descent pushes the chosen answer up.",
    ),
    "d_log_x2": Entry(
        "Derivative on the rejected side",
        "∂L/∂log X₂",
        "How the loss changes with the rejected log-ratio; positive (orange): descent pushes the rejected answer down.",
    ),
}
"""Quantities of an objective over the plane of both log-ratios (see `lab.objectives.field`)."""

PAIR_EVIDENCE = {
    "confidence": Entry("Confidence", "μ", "Mean probability that the models give a pair's label over their visits."),
    "variability": Entry("Variability", "σ", "Standard deviation of the probability that the models give a pair's label."),
    "correctness": Entry("Correctness", "share", "Share of the visits at which the chosen answer had the higher reward.", "share"),
    "aum": Entry("Area under the margin", "AUM", "Mean margin of a pair over its visits; low for labels that the models resist."),
    "forgotten": Entry("Times forgotten", "n", "How often a margin above 0 was followed by one of 0 or less.", "times"),
    "held_out_margin": Entry("Held-out margin", "m", "Mean reward margin by models that were not trained on the pair."),
    "probability": Entry(
        "Probability flipped",
        "P(flip)",
        "Probability that chosen and rejected are exchanged, averaged over plausible shares of flips.",
    ),
    "probability_if_few": Entry("Probability flipped, few", "P(flip)", "Probability flipped if few labels are (2.5 % quantile)."),
    "probability_if_many": Entry(
        "Probability flipped, many", "P(flip)", "Probability flipped if many labels are (97.5 % quantile)."
    ),
}
"""Numbers of a pair from its margins over training (see `lab.evidence`), by name."""

PUSHES = {
    "chosen": Entry("Push on the chosen answer", "−∂L/∂log X₁", "Above 0: descent makes the chosen answer more likely."),
    "rejected": Entry("Push on the rejected answer", "∂L/∂log X₂", "Above 0: descent makes the rejected answer less likely."),
}
"""The pushes of an objective on both sides, by side."""

# The loop stores these as pair terms under the left name and their batch means under TRL's.
SCALAR_OF_TERM = {
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "logps_chosen": "logps/chosen",
    "logps_rejected": "logps/rejected",
}
"""Names of the scalars of those pair terms whose scalar has another name, TRL's."""

HELD_OUT = "eval/"
"""Prefix of the names of scalars measured on held-out pairs, or on answers to held-out prompts."""

GLOSSARY: dict[str, Entry] = _PAIR | _SIDES | {term: _SIDES[scalar] for term, scalar in SCALAR_OF_TERM.items()} | _RUN
"""Every recorded scalar and pair term, by the name under which it is stored."""

PAIR_TERMS = (*_PAIR, *SCALAR_OF_TERM)
"""Names of the terms that the objectives of the library record for every pair."""


def entry(name: str) -> Entry:
    """Return the glossary entry of a recorded scalar or pair term; a name of a user's own objective gets an entry of its own.

    A scalar `eval/<name>` without an entry gets that of `<name>`, marked as held out.
    """
    if name.startswith("degree_confusion/"):
        true, predicted = name.split("/")[1:]
        return Entry(
            "Confusion of the degree head",
            f"n({true}, {predicted})",
            f"SPO: number of answers of degree {true} for which the head predicts {predicted}.",
            "answers",
        )
    base = name.removeprefix(HELD_OUT)
    if name not in GLOSSARY and base != name:
        known = entry(base)
        return Entry(f"{known.title}, held out", f"held-out {known.symbol}", f"On held-out pairs: {known.meaning}", known.unit)
    return GLOSSARY.get(name) or Entry(name, name, "A number that only this objective records.")
