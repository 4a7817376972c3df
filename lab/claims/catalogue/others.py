"""Claims about SPO, flipped labels, the second world, and cost."""

from __future__ import annotations

from lab.claims.claim import Claim, Part, Region, Term, against
from lab.claims.trials import HARD_RATES, RATE, rate_text, rated

SPO = "SPO, arXiv 2409.17791"
REWARD = "points of oracle reward"
TITLES = {"dpo": "DPO", "sgdpo": "SGDPO", "simpo": "SimPO", "alpha_dpo": "AlphaDPO", "spo": "SPO on DPO"}
OWN_HEAD = "Number of degrees (4), removal of key phrases, head and weight 0.1 are OURS; the paper does not give them."


def _on_top(base: str) -> Claim:
    title = TITLES[base]
    return Claim(
        f"spo-{base}",
        f"SPO improves {title}",
        f"SPO on top of {title} gives a higher oracle reward than {title} alone.",
        f"{SPO}: it plugs into existing methods and improves them",
        f"the oracle reward of SPO on {title} minus that of {title}, after training at learning rate 2e-4",
        REWARD,
        (against(f"spo on {base}", rated(base, RATE), "eval/oracle_reward"),),
        Region(low=0.0),
        0.1,
        note=OWN_HEAD,
    )


def clean(method: str) -> str:
    """Return the label of the run of a method at RATE with the world's own labels."""
    return "spo on dpo" if method == "spo" else rated(method, RATE)


def _lost(method: str, factor: float = 1) -> tuple[Term, Term]:
    metric = "eval/oracle_reward"
    return Term(factor, clean(method), metric), Term(-factor, f"flipped {method}", metric)


FLIPPED_NOTE = (
    "At learning rate 2e-4. 20 % of all labels are flipped, drawn from right and wrong ones alike, the same for every method; "
    "the world's annotator has some wrong already."
)


def _sturdier(method: str) -> Claim:
    title = TITLES[method]
    return Claim(
        f"flipped-{method}",
        f"{title} loses less than DPO by flipped labels",
        f"With 20 % flipped labels {title} loses less oracle reward than DPO does.",
        "OURS: no paper claims it; a question for the choice of a method",
        f"the oracle reward that {title} loses by flipped labels minus what DPO loses",
        f"{REWARD}; above 0 it loses more",
        (Part(f"loss of {title} minus loss of DPO", (*_lost(method), *_lost("dpo", -1))),),
        Region(high=0.0),
        0.1,
        note=FLIPPED_NOTE,
        beside=(Part(f"the oracle reward that {title} itself loses", _lost(method)),),
    )


def _harder(one: str, other: str, source: str) -> Claim:
    return Claim(
        f"hard-{one}-{other}".replace("_", "-"),
        f"Second world: {TITLES[one]} beats {TITLES[other]}",
        f"On the second world, with longer answers and an annotator who prefers length, {TITLES[one]} reaches a higher oracle "
        f"reward than {TITLES[other]}.",
        source,
        f"the oracle reward of {TITLES[one]} minus that of {TITLES[other]}, after training on the second world",
        REWARD,
        tuple(
            against(
                rated(one, rate, "hard "), rated(other, rate, "hard "), "eval/oracle_reward",
                label=f"rate {rate_text(rate)}",
            )
            for rate in HARD_RATES
        ),
        Region(low=0.0),
        0.1,
        note="Averaged within each seed over the learning rates 1e-4 and 2e-4.",
    )  # fmt: skip


def _cost(method: str, title: str, most: float, sentence: str, source: str) -> Claim:
    return Claim(
        f"cost-{method}".replace("_", "-"),
        title,
        sentence,
        source,
        f"the CPU time per step of {TITLES[method]} divided by that of DPO, in alternating rounds with one thread",
        "ratio",
        (),
        Region(high=most),
        0.05,
        cost=method,
        note="Reference log-probs are cached before training in all methods, and are not part of a step: what SimPO saves "
        "by needing none is not measured. Times differ from one measurement to the next, unlike the "
        "numbers of all other claims. Steps are without micro-batches; with them AlphaDPO, whose statistics are those of the whole "
        "batch, needs one more forward pass. Seconds on the clock were replaced by CPU time when one of the eight rounds had been "
        "seen; the bounds stayed.",
    )


SPO_CLAIMS = (
    _on_top("dpo"),
    _on_top("simpo"),
    _on_top("sgdpo"),
    Claim(
        "spo-accuracy",
        "SPO's head tells degrees apart",
        "SPO's head classifies how much of an answer's key content was removed, twice as often right as by chance.",
        f"{SPO}: a module classifies the preference degree; twice chance: OURS",
        "the share of degraded held-out answers whose degree the head finds, after training",
        "share (chance is 0.25)",
        tuple(Part(f"spo on {base}", (Term(1, f"spo on {base}", "eval/degree_accuracy"),)) for base in ("dpo", "simpo", "sgdpo")),
        Region(low=0.5),
        0.05,
        note="Averaged within each seed over the three base methods. The four answers of a pair are the intact one and three "
        "degraded ones. " + OWN_HEAD,
    ),
    Claim(
        "spo-order",
        "SPO orders answers by their degree",
        "Under SPO the implicit reward of an answer falls with the share of key content that was removed.",
        f"{SPO}: the method learns the degree of preference; measure: OURS",
        "the rank correlation of the implicit reward with the true degree within the answers of a held-out pair, after training",
        "Spearman's correlation (+1: the reward rises with every phrase removed)",
        tuple(Part(f"spo on {base}", (Term(1, f"spo on {base}", "eval/rank_correlation"),)) for base in ("dpo", "sgdpo")),
        Region(high=0.0),
        0.1,
        note="Averaged within each seed over DPO and SGDPO as base; SimPO has no reference, hence no implicit log-ratio. Whether "
        "the sign is due to SPO is not measured: no loss trains the log-probs of degraded answers, and in lesson 06 DPO with an "
        "untrained head has the same sign. " + OWN_HEAD,
    ),
)

FLIPPED_CLAIMS = (
    Claim(
        "flipped-dpo",
        "Flipped labels cost DPO reward",
        "With 20 % flipped labels DPO reaches a lower oracle reward.",
        "OURS: the baseline of the claims below",
        "the oracle reward of DPO with the world's own labels minus that with 20 % more of them flipped",
        REWARD,
        (Part("own labels minus flipped", _lost("dpo")),),
        Region(low=0.0),
        0.1,
        note=FLIPPED_NOTE,
    ),
    *(_sturdier(method) for method in ("sgdpo", "simpo", "alpha_dpo", "spo")),
)

HARD_CLAIMS = (
    _harder("sgdpo", "dpo", "SGDPO, arXiv 2505.12435, results"),
    _harder("alpha_dpo", "simpo", "AlphaDPO, arXiv 2410.10148, results"),
    _harder("alpha_dpo", "dpo", "AlphaDPO, arXiv 2410.10148, results"),
    _harder("spo", "dpo", f"{SPO}, results"),
)

COST_CLAIMS = (
    _cost(
        "sgdpo",
        "SGDPO takes at most 5 % more time than DPO",
        1.05,
        "SGDPO costs hardly more than DPO: at most 5 % more time per step.",
        "SGDPO, arXiv 2505.12435: about 0.4 % extra cost; 5 %: OURS, what these short runs can resolve",
    ),
    _cost(
        "simpo",
        "SimPO takes less time than DPO",
        1.0,
        "SimPO, which needs no reference, takes less time per step than DPO.",
        "SimPO, arXiv 2405.14734",
    ),
    _cost(
        "alpha_dpo",
        "AlphaDPO takes at most 5 % more time than DPO",
        1.05,
        "AlphaDPO costs hardly more than DPO: at most 5 % more time per step.",
        "OURS",
    ),
    _cost(
        "spo",
        "SPO takes less than 2.5 times DPO's time",
        2.5,
        "SPO with four degrees takes less than 2.5 times DPO's time per step: it computes five answers per pair where DPO has two.",
        "OURS",
    ),
)
