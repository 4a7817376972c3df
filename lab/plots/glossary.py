"""What every number of a run means, in one sentence and in the papers' notation; the words behind every hover."""

from __future__ import annotations

from dataclasses import dataclass

from .style import wrapped


@dataclass(frozen=True)
class Entry:
    """A scalar or a term: title for people, unit ("" where it has none), symbol as in the paper, meaning in one sentence."""

    title: str
    symbol: str
    unit: str
    meaning: str

    @property
    def hover(self) -> str:
        """Symbol and meaning as the lines of a hover label."""
        return wrapped(f"{self.symbol}: {self.meaning}")

    @property
    def axis(self) -> str:
        """Axis title: the symbol and, where there is one, the unit."""
        return f"{self.symbol} [{self.unit}]" if self.unit else self.symbol


# y_w is the chosen answer, y_l the rejected one, π the policy, ref the reference, sg the stop-gradient.
_PAIR = {
    "loss": Entry("Loss", "L", "nats", "What the optimizer lowers: the objective's loss of a pair, or its mean over the batch."),
    "logit": Entry(
        "Logit",
        "z",
        "",
        "What goes into the sigmoid: the larger, the more surely the policy prefers the chosen answer; for SGDPO (z₁ + z₂)/2.",
    ),
    "logit_chosen": Entry(
        "Logit of the chosen side",
        "z₁",
        "",
        "The chosen side's own logit; SGDPO: z₁ = β(log X₁ − sg[log Y₂]), full chosen against the rejected's pilot.",
    ),
    "logit_rejected": Entry(
        "Logit of the rejected side",
        "z₂",
        "",
        "The rejected side's own logit; SGDPO: z₂ = β(sg[log Y₁] − log X₂), the chosen's pilot against full rejected.",
    ),
    "log_ratio_chosen": Entry(
        "Log-ratio of the chosen answer",
        "log X₁",
        "nats",
        "log π(y_w|x) − log ref(y_w|x), summed over the answer's tokens: above 0 it became likelier.",
    ),
    "log_ratio_rejected": Entry(
        "Log-ratio of the rejected answer",
        "log X₂",
        "nats",
        "log π(y_l|x) − log ref(y_l|x), summed over the answer's tokens: below 0 it became rarer.",
    ),
    "pilot_chosen": Entry(
        "Pilot of the chosen answer",
        "log Y₁",
        "nats",
        "SGDPO's pilot: the log-ratio summed over tokens of y_w drawn at random; it steers the rejected side.",
    ),
    "pilot_rejected": Entry(
        "Pilot of the rejected answer",
        "log Y₂",
        "nats",
        "SGDPO's pilot: the log-ratio summed over tokens of y_l drawn at random; it steers the chosen side.",
    ),
    "target_margin": Entry(
        "Target margin",
        "γ + α M*",
        "",
        "The margin the objective asks of this pair; α-DPO gives every pair its own, by the z-score M* of its gap.",
    ),
    "gap": Entry(
        "Gap",
        "M/β",
        "nats/token",
        "α-DPO: how much further apart the policy holds the two answers than the reference; its z-score sets the margin.",
    ),
    "z": Entry("z-score of the gap", "M*", "", "α-DPO: (M − mean)/std, how unusual a pair's gap is; 0 asks of it just γ."),
    "weight_chosen": Entry(
        "Weight of the chosen answer",
        "−∂L/∂log π(y_w)",
        "1/token",
        "Mean token credit of y_w: how hard the loss pushes its tokens up, whatever the objective.",
    ),
    "weight_rejected": Entry(
        "Weight of the rejected answer",
        "∂L/∂log π(y_l)",
        "1/token",
        "Mean token credit of y_l: how hard the loss pushes its tokens down, whatever the objective.",
    ),
    "pair_weight": Entry(
        "Weight of the pair",
        "c",
        "",
        "WPO: how probable the policy finds both answers; pairs it would not write itself count less.",
    ),
    "nll": Entry(
        "Likelihood term",
        "−avg log π(y_w)",
        "nats/token",
        "The negative log-likelihood of the chosen answer that the objective adds (CPO, ORPO).",
    ),
    "loss_align": Entry("Alignment loss", "L_align", "nats", "SPO: the loss of the objective it wraps."),
    "loss_degree": Entry(
        "Preference-degree loss",
        "L_PD",
        "nats",
        "SPO: cross-entropy of the head that tells how much of an answer's key content was removed.",
    ),
    "degree": Entry("Degree", "E[k]", "", "SPO: the degree that the head expects on average; 0 is an intact answer."),
    "degree_accuracy": Entry(
        "Accuracy of the degree head", "acc(k)", "", "SPO: share of the weakened answers whose degree the head names rightly."
    ),
    "rank_correlation": Entry(
        "Degree against implicit reward",
        "ρ",
        "",
        "SPO: Spearman's rank correlation of an answer's degree with its log-ratio; −1 means the reward falls with every removal.",
    ),
}

_SIDES = {
    "rewards/chosen": Entry(
        "Reward of the chosen answer",
        "r(x, y_w)",
        "",
        "The implicit reward β log X₁; without a reference β times the (average) log-prob of y_w.",
    ),
    "rewards/rejected": Entry(
        "Reward of the rejected answer",
        "r(x, y_l)",
        "",
        "The implicit reward β log X₂; without a reference β times the (average) log-prob of y_l.",
    ),
    "logps/chosen": Entry(
        "Log-prob of the chosen answer", "log π(y_w|x)", "nats", "How probable the policy finds y_w, summed over its tokens."
    ),
    "logps/rejected": Entry(
        "Log-prob of the rejected answer", "log π(y_l|x)", "nats", "How probable the policy finds y_l, summed over its tokens."
    ),
}

_RUN = {
    "margin": Entry(
        "Reward margin of the pair",
        "r(x, y_w) − r(x, y_l)",
        "",
        "How much more reward the chosen answer of this pair has than the rejected one; below 0 the policy has it the wrong way.",
    ),
    "rewards/margins": Entry(
        "Reward margin",
        "r(x, y_w) − r(x, y_l)",
        "",
        "How much more reward the chosen answer has than the rejected, mean over the batch.",
    ),
    "rewards/accuracies": Entry(
        "Accuracy", "P(r_w > r_l)", "share", "Share of the batch's pairs whose chosen answer has the larger reward; 0.5 is chance."
    ),
    "grad_norm": Entry("Gradient norm", "‖g‖", "", "Length of the whole gradient before clipping."),
    "learning_rate": Entry("Learning rate", "η", "", "AdamW's step size at this step of the schedule."),
    "epoch": Entry("Epoch", "epoch", "", "How often the run has gone through the pair set."),
    "num_tokens": Entry("Answer tokens", "tokens", "tokens", "Answer tokens trained on since the start, both sides."),
    "pairs_per_second": Entry(
        "Throughput",
        "pairs/s",
        "pairs/s",
        "Pairs trained per second, averaged over about ten steps; pauses and evaluations do not count.",
    ),
    "seconds/trained": Entry(
        "Time trained",
        "t",
        "s",
        "Seconds that the steps so far took, a branch's parent's included; looks and pauses do not count.",
    ),
    "seconds/clock": Entry(
        "Time since the run began", "t", "s", "Seconds on the clock since the run began; looks, pauses and waiting count."
    ),
    "probe_cost": Entry(
        "Cost of the probes",
        "share",
        "share",
        "Probes' time (gradient by layer, looks at the panel between evaluations) as a share of the time trained.",
    ),
    "panel_seconds": Entry("Time of a look at the panel", "s", "s", "What one look at the panel of held-out pairs took."),
    "norm_chosen": Entry(
        "Gradient of the chosen part", "‖g_w‖", "", "Length of the gradient that the chosen answers alone send into the layer."
    ),
    "norm_rejected": Entry(
        "Gradient of the rejected part", "‖g_l‖", "", "Length of the gradient that the rejected answers alone send into the layer."
    ),
    "cosine": Entry(
        "Cosine of the two parts", "cos(g_w, g_l)", "", "1: both sides pull the layer the same way; −1: they undo each other."
    ),
    "update_ratio": Entry(
        "Update over weights",
        "‖Δθ‖/‖θ‖",
        "",
        "How far this step moved the layer's weights (with LoRA the adapter's, large at first because B begins at 0) as a share of "
        "their length; about 1/1000 is a rule of thumb for training from scratch, fine-tuning stays below it, and far above it the "
        "learning rate is too high.",
    ),
    "panel/chosen": Entry(
        "Panel: chosen answer",
        "log π(y_w|x)",
        "nats",
        "How probable the policy finds the chosen answer of a held-out pair; below its start it is displaced, although training "
        "means to raise it.",
    ),
    "panel/rejected": Entry(
        "Panel: rejected answer",
        "log π(y_l|x)",
        "nats",
        "How probable the policy finds the rejected answer of a held-out pair, which training pushes down.",
    ),
    "panel/greedy": Entry(
        "Panel: greedy answer",
        "log π(y*|x)",
        "nats",
        "How probable the policy finds its own greedy answer y*, decoded anew at each look; it rises while both others fall where "
        "the probability is squeezed into what was likeliest anyway.",
    ),
    "eval/oracle_reward": Entry(
        "Oracle reward", "R", "", "Mean reward that the world's oracle gives to freshly sampled answers to held-out prompts."
    ),
    "eval/win_rate": Entry(
        "Win rate",
        "P(R > R_ref)",
        "share",
        "How often a sampled answer has more reward than one of the reference's to the same prompt; 0.5 at the start.",
    ),
    "eval/valid": Entry("Valid answers", "share", "share", "Share of the sampled answers that the oracle can read as an answer."),
    "eval/reward": Entry("Reward", "r(x, y)", "", "Mean score that the reward model gives to freshly sampled answers."),
    "eval/kl": Entry(
        "Distance to the reference",
        "KL(π‖ref)",
        "nats",
        "How far the policy's answers have moved from the reference: the divergence of whole answers, estimated on sampled ones.",
    ),
    "eval/completions/mean_length": Entry(
        "Answer length", "tokens", "tokens", "Mean number of tokens of the sampled answers, end-of-sequence included."
    ),
    "eval/completions/clipped_ratio": Entry(
        "Cut answers", "share", "share", "Share of the sampled answers that had not ended by themselves after eval_tokens tokens."
    ),
    "eval/repetition": Entry(
        "Repetition", "1 − distinct/all", "share", "Share of an answer's 4-grams of words that stood in it before."
    ),
}

# The loop stores these as pair terms under the left name and their batch means under TRL's.
_TWINS = {
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "logps_chosen": "logps/chosen",
    "logps_rejected": "logps/rejected",
}

HELD_OUT = "eval/"
"""What the names of numbers begin with that are of held-out pairs, or of answers to held-out prompts."""

GLOSSARY: dict[str, Entry] = _PAIR | _SIDES | {term: _SIDES[scalar] for term, scalar in _TWINS.items()} | _RUN
"""Every scalar and term by the name it is stored under."""

PAIR_TERMS = (*_PAIR, *_TWINS)
"""Names of the terms that objectives of the library record for every pair."""


def entry(name: str) -> Entry:
    """What is known about a name; a name that an objective of one's own invented stands for itself."""
    if name.startswith("degree_confusion/"):
        true, named = name.split("/")[1:]
        return Entry(
            "Confusion of the degree head",
            f"n({true}, {named})",
            "answers",
            f"SPO: answers of degree {true} that the head takes for {named}.",
        )
    twin = name.removeprefix(HELD_OUT)
    if name not in GLOSSARY and twin != name:
        about = entry(twin)
        return Entry(
            f"{about.title}, held out", f"held-out {about.symbol}", about.unit, f"On pairs never trained on. {about.meaning}"
        )
    return GLOSSARY.get(name) or Entry(name, name, "", "A number of this objective's own.")
