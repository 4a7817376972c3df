"""Claims about AlphaDPO and SimPO."""

from __future__ import annotations

from dataclasses import replace

from lab.claims.claim import Claim, Part, Region, Term, against
from lab.claims.trials import RATE, RATES, rated
from lab.experiments.records import MARGIN_STD

from .sgdpo import KL_NOTE, RATES_NOTE, over_rates

ALPHA = "AlphaDPO, arXiv 2410.10148"
ABLATION = f"{ALPHA}, ablation on Llama-3-8B-Instruct v0.2, length-controlled win rate on AlpacaEval 2 in per cent"
SMALL = rated("alpha_dpo", RATE)
"""AlphaDPO with alpha 0.05 at the learning rate of the ablations."""
REWARD = "points of oracle reward"
ABLATED = "At learning rate 2e-4, with the paper's beta 10, gamma/beta 0.4 and alpha 0.2."


GAIN = Part(
    "the oracle reward of the full method (alpha 0.2) after training minus that before",
    (Term(1, "alpha 0.2", "eval/oracle_reward"), Term(-1, "alpha 0.2", "eval/oracle_reward", "step=0")),
)
"""Where the full method gains nothing, an ablation compares settings that are trained too far."""


def _reward(other: str, at: str) -> Claim:
    title = {"simpo": "SimPO", "dpo": "DPO"}[other]
    where = {"end": "after training", "kl": "where both have reached the same KL divergence"}[at]
    return Claim(
        f"alpha-{other}" + ("-kl" if at == "kl" else ""),
        f"AlphaDPO beats {title} {'at equal KL' if at == 'kl' else 'after training'}",
        f"AlphaDPO's answers have a higher oracle reward than {title}'s {where}.",
        f"{ALPHA}, length-controlled win rates on AlpacaEval 2" if at == "end" else f"{ALPHA}, control of the KL divergence",
        f"the oracle reward of AlphaDPO (alpha 0.05) minus that of {title} {where}",
        REWARD,
        over_rates("alpha_dpo", other, "eval/oracle_reward", at),
        Region(low=0.0),
        0.1,
        note=RATES_NOTE + (KL_NOTE if at == "kl" else ""),
        beside=() if at == "kl" else tuple(_distance(other, rate) for rate in RATES),
    )


def _distance(other: str, rate: float) -> Part:
    label = f"KL divergence of AlphaDPO minus that of {rated(other, rate)}, in nats an answer"
    return against(rated("alpha_dpo", rate), rated(other, rate), "eval/kl", label=label)


CLAIMS = (
    _reward("simpo", "end"),
    _reward("dpo", "end"),
    _reward("simpo", "kl"),
    _reward("dpo", "kl"),
    Claim(
        "alpha-narrows",
        "A larger alpha narrows the reward gap",
        "A larger alpha narrows the distribution of the reward gap between chosen and rejected answers.",
        f"{ALPHA}, analysis of alpha",
        "the standard deviation of the reward margin over held-out pairs with alpha 0.2 or 0.5 minus that with alpha 0.05",
        "reward (10 times the log-prob per token)",
        (against("alpha 0.2", SMALL, MARGIN_STD), against("alpha 0.5", SMALL, MARGIN_STD)),
        Region(high=0.0),
        0.1,
        note="At learning rate 2e-4, averaged within each seed over both comparisons.",
    ),
    Claim(
        "alpha-keeps-chosen",
        "A larger alpha leaves the chosen log-prob",
        "A larger alpha hardly changes the average log-prob of chosen answers.",
        f"{ALPHA}, analysis of alpha",
        "the reward of chosen answers (10 times their average log-prob) with alpha 0.2 minus that with alpha 0.05",
        "reward (10 times the log-prob per token)",
        (against("alpha 0.2", SMALL, "eval/rewards/chosen"),),
        Region(-0.2, 0.2),
        0.2,
        note="On held-out pairs at learning rate 2e-4. 0.2 is 0.02 nats per token, about 1 nat an answer (OURS).",
    ),
    Claim(
        "gamma-lowers-chosen",
        "A larger gamma in SimPO lowers the chosen log-prob",
        "A larger target margin gamma in SimPO lowers the average log-prob of chosen answers.",
        f"{ALPHA}, comparison of alpha with SimPO's gamma",
        "the reward of chosen answers (10 times their average log-prob) with gamma/beta 1 minus that with gamma/beta 0.4, in SimPO",
        "reward (10 times the log-prob per token)",
        (against("simpo gamma 1", rated("simpo", RATE), "eval/rewards/chosen"),),
        Region(high=0.0),
        0.2,
        note="On held-out pairs at learning rate 2e-4.",
    ),
    Claim(
        "alpha-stop-gradient",
        "AlphaDPO collapses without the stop-gradient",
        "Without the stop-gradient on its margin AlphaDPO makes the model worse than it was before training.",
        f"{ABLATION}: 2.7 instead of 58.7",
        "the oracle reward after training without the stop-gradient minus that of the model before training",
        REWARD,
        (
            Part(
                "after training against before",
                (
                    Term(1, "alpha 0.2 without stop-gradient", "eval/oracle_reward"),
                    Term(-1, "alpha 0.2 without stop-gradient", "eval/oracle_reward", "step=0"),
                ),
            ),
        ),
        Region(high=0.0),
        0.1,
        note=ABLATED + " The mean and the standard deviation that normalise the margin carry no gradient in either variant. How "
        "much of it is due to the stop-gradient shows beside the model with it.",
        beside=(replace(GAIN, label="the same with the stop-gradient"),),
    ),
    Claim(
        "alpha-normalisation",
        "Normalising the gap helps",
        "AlphaDPO with the gap normalised to a z-score has a higher oracle reward than with the gap itself.",
        f"{ABLATION}: 58.7 against 56.5",
        "the oracle reward after training with normalisation minus that without",
        REWARD,
        (against("alpha 0.2", "alpha 0.2 without normalisation", "eval/oracle_reward"),),
        Region(low=0.0),
        0.1,
        note=ABLATED,
        beside=(GAIN,),
    ),
    Claim(
        "alpha-gamma",
        "AlphaDPO needs gamma",
        "AlphaDPO with the constant margin gamma has a higher oracle reward than without it.",
        f"{ABLATION}: 58.7 against 51.2",
        "the oracle reward after training with gamma/beta 0.4 minus that with gamma 0",
        REWARD,
        (against("alpha 0.2", "alpha 0.2 gamma 0", "eval/oracle_reward"),),
        Region(low=0.0),
        0.1,
        note=ABLATED,
        beside=(GAIN,),
    ),
    Claim(
        "alpha-reference",
        "The ratio is the best implicit reference",
        "AlphaDPO's implicit reference, a uniform distribution times (policy / reference)^alpha, gives a higher oracle reward than "
        "policy, reference or inverse reference alone.",
        f"{ABLATION}: 58.7 against 57.2, 56.3 and 56.3",
        "the oracle reward after training with the ratio minus that with each of the three others",
        REWARD,
        tuple(
            against("alpha 0.2", f"alpha 0.2 {other}", "eval/oracle_reward")
            for other in ("policy only", "reference only", "inverse reference")
        ),
        Region(low=0.0),
        0.1,
        note=ABLATED + " Averaged within each seed over the three comparisons.",
        beside=(GAIN,),
    ),
)
