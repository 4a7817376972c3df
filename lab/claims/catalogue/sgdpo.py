"""Claims about DPO and SGDPO."""

from __future__ import annotations

from lab.claims.claim import Claim, Part, Region, Term, against
from lab.claims.trials import PILOTS, RATE, RATES, pilots, rate_text, rated

SGDPO = "SGDPO, arXiv 2505.12435"
RATES_NOTE = "Averaged within each seed over the learning rates 1e-4, 2e-4 and 4e-4."
ACCURACY_NOTE = (
    " Before training all margins are 0 but for rounding, and the accuracy says nothing; a level below that of the first "
    "evaluation is read on the line from there."
)
KL_NOTE = (
    " Between evaluations both are read on a straight line, which puts the run that moves faster too low where reward flattens or "
    "falls faster as KL grows; KL may fall again while the learning rate does, and the level may then lie in mid-training."
)


def over_rates(one: str, other: str, metric: str, at: str = "end") -> tuple[Part, ...]:
    """Return the difference of two methods in a measure at each learning rate."""
    return tuple(against(rated(one, rate), rated(other, rate), metric, at, f"rate {rate_text(rate)}") for rate in RATES)


def _falls_faster(rate: float) -> Part:
    label = rated("dpo", rate)
    return Part(label, (Term(-1, label, "eval/log_ratio_rejected"), Term(-1, label, "eval/log_ratio_chosen")))


def _weights(rate: float) -> Part:
    sides = ("training/weight_chosen", "training/weight_rejected")
    one, other = rated("sgdpo", rate), rated("dpo", rate)
    terms = (*(Term(1, one, side) for side in sides), *(Term(-1, other, side) for side in sides))
    return Part(f"rate {rate_text(rate)}", terms, ratio=True)


CLAIMS = (
    Claim(
        "dpo-imbalance",
        "DPO: rejected falls faster than chosen rises",
        "Under DPO the log-ratio of rejected answers falls faster than that of chosen answers rises.",
        f"{SGDPO}, the problem it names: |dL/dX1| / |dL/dX2| = X2/X1",
        "the fall of the rejected log-ratio minus the rise of the chosen log-ratio, on held-out pairs after training",
        "nats an answer",
        tuple(_falls_faster(rate) for rate in RATES),
        Region(low=0.0),
        1.0,
        curve="eval/log_ratio_rejected",
        note=RATES_NOTE + " Where chosen answers fall, too, their rise is negative, and their fall adds to the number.",
    ),
    Claim(
        "dpo-displacement",
        "DPO: the chosen answers lose probability",
        "DPO makes even the chosen answers less likely than they were (likelihood displacement).",
        "Likelihood displacement, listed as related work of SGDPO and of 3D-properties, arXiv 2406.07327",
        "the log-ratio of chosen answers, on held-out pairs after training",
        "nats an answer",
        tuple(Part(rated("dpo", rate), (Term(1, rated("dpo", rate), "eval/log_ratio_chosen"),)) for rate in RATES),
        Region(high=0.0),
        0.5,
        note=RATES_NOTE,
    ),
    Claim(
        "sgdpo-chosen",
        "SGDPO keeps the chosen reward higher than DPO",
        "At equal held-out accuracy SGDPO keeps the reward of chosen answers higher than DPO does.",
        f"{SGDPO}, goal G1",
        "the chosen reward of SGDPO minus that of DPO, on held-out pairs where both have reached the same accuracy",
        "reward (0.1 times the log-ratio)",
        over_rates("sgdpo", "dpo", "eval/rewards/chosen", "accuracy"),
        Region(low=0.0),
        0.05,
        note=RATES_NOTE + ACCURACY_NOTE,
    ),
    Claim(
        "sgdpo-rejected",
        "SGDPO keeps the rejected reward from falling as fast",
        "At equal held-out accuracy SGDPO leaves the reward of rejected answers higher than DPO does.",
        f"{SGDPO}, goal G2",
        "the rejected reward of SGDPO minus that of DPO, on held-out pairs where both have reached the same accuracy",
        "reward (0.1 times the log-ratio)",
        over_rates("sgdpo", "dpo", "eval/rewards/rejected", "accuracy"),
        Region(low=0.0),
        0.05,
        note=RATES_NOTE + ACCURACY_NOTE,
    ),
    Claim(
        "sgdpo-win-rate",
        "SGDPO wins more often than DPO, over r1 and r2",
        "SGDPO's answers win more often than DPO's, over pilots of different lengths r1 and r2.",
        f"{SGDPO}, results: up to 9.19 % higher score than DPO",
        "the oracle win rate of SGDPO minus that of DPO after training at learning rate 2e-4",
        "share of prompts",
        tuple(
            against(pilots(r1, r2), rated("dpo", RATE), "eval/win_rate", label=f"r1 {r1:g}, r2 {r2:g}")
            for r1 in PILOTS
            for r2 in PILOTS
        ),
        Region(low=0.0),
        0.02,
        note="Averaged within each seed over the nine settings of r1 and r2 (0.6, 0.8, 1). Both win rates are against answers of "
        "the model before training.",
    ),
    Claim(
        "sgdpo-half-gradient",
        "SGDPO halves DPO's gradient at the start",
        "While policy and reference are equal, SGDPO's gradient is half of DPO's.",
        f"{SGDPO}, released code (the factor 1/2)",
        "the norm of SGDPO's gradient at the first step divided by DPO's on the same batch",
        "ratio",
        (
            Part(
                "first step",
                (Term(1, rated("sgdpo", RATE), "training/grad_norm"), Term(-1, rated("dpo", RATE), "training/grad_norm")),
                "step=0",
                ratio=True,
            ),
        ),
        Region(0.49, 0.51),
        0.01,
        curve="training/grad_norm",
        note="Norm of the gradient with respect to the model's parameters, before clipping. Later values in the curve are means "
        "over the steps since the previous evaluation.",
    ),
    Claim(
        "sgdpo-weights",
        "SGDPO's weights stay at half of DPO's",
        "Throughout training the weights of both sides together stay at about half of DPO's.",
        f"{SGDPO}, Theorem 1 with the factor 1/2 of the code",
        "the sum of the weights of both sides under SGDPO divided by that under DPO, mean of the last 50 steps",
        "ratio",
        tuple(_weights(rate) for rate in RATES),
        Region(0.4, 0.6),
        0.1,
        note=RATES_NOTE + " A weight is how strongly the loss pushes a side, per unit of log-prob: the chosen one up, the rejected "
        "one down, both positive. The number is of the end alone; at the start, where all logits are 0, the ratio is one half.",
    ),
    Claim(
        "sgdpo-distance",
        "SGDPO moves less far than DPO at the same rate",
        "At the same learning rate SGDPO ends nearer to the reference than DPO.",
        "OURS: expected where the size of a step follows that of the gradient",
        "the KL divergence of SGDPO from the reference minus that of DPO, after training",
        "nats an answer",
        over_rates("sgdpo", "dpo", "eval/kl"),
        Region(high=0.0),
        0.5,
        note=RATES_NOTE + " AdamW divides each gradient by its own recent size, so half of the gradient is not half of the "
        "rate: halving a loss changes a step only through clipping at norm 1 and Adam's eps.",
    ),
    Claim(
        "sgdpo-equal-distance",
        "SGDPO beats DPO at equal KL",
        "Where both have moved equally far from the reference, SGDPO's answers have a higher oracle reward than DPO's.",
        f"{SGDPO}, results; equal effective rate: OURS",
        "the oracle reward of SGDPO minus that of DPO where both have reached the same KL divergence",
        "points of oracle reward",
        over_rates("sgdpo", "dpo", "eval/oracle_reward", "kl"),
        Region(low=0.0),
        0.1,
        note=RATES_NOTE + " Effective rate means distance moved: AdamW is scale-free, so the size of the gradient says nothing "
        "about it, and the two methods are compared where their KL divergence from the reference is equal." + KL_NOTE,
        beside=tuple(
            against(
                rated("sgdpo", rate),
                rated("dpo", rate),
                "eval/oracle_reward",
                label=f"after training, where KL is not equal, at rate {rate_text(rate)}",
            )
            for rate in RATES
        ),
    ),
)
