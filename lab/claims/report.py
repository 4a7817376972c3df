"""The report of the claims as Markdown and HTML, with one picture each; every number and verdict is made from the runs."""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .measuring import Curves
from .pictures import draw
from .sentences import (
    alone,
    beside_text,
    bounds_of,
    count_text,
    interval_text,
    limits_text,
    place_text,
    result_sentence,
    verdict_text,
)
from .trials import FLIPPED_SHARE, TRIALS, Scale
from .verdicts import Judged

PICTURES = "claims"
"""Folder of the pictures, beside the report."""
WORLDS = {"world": "the first world", "world-hard": "the second world"}
WORDS = {
    "oracle reward": "what the world's own judge, a program, gives to an answer to a held-out prompt; higher is better.",
    "log-ratio": "the log-prob of an answer under the model minus that under the model before training (the reference).",
    "reward of an answer": "what the method trains: beta times the log-ratio (DPO, SGDPO), or beta times the log-prob per token "
    "(SimPO, AlphaDPO). The margin is that of the chosen answer minus that of the rejected one.",
    "KL divergence": "how far the model has moved from the reference, in nats an answer, over answers that it samples.",
    "r1, r2": "sizes of SGDPO's pilots, the random parts of the chosen and of the rejected answer that the other answer is "
    "compared with, as shares of the shorter answer's length.",
    "alpha, gamma": "AlphaDPO's target margin is gamma plus alpha times a measure of each pair; SimPO's is gamma alone.",
    "degree": "how many key phrases were removed from an answer; SPO's head, a small classifier on the model, learns to tell it.",
}
"""Words of the report that no claim explains."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 0.9em; }
td:nth-child(2) { white-space: nowrap; }
td, th { border-bottom: 1px solid #ccc; padding: 0.25rem 0.6rem; text-align: left; }
img { max-width: 100% } code { background: #f2f2f2 }
"""


@dataclass(frozen=True)
class Facts:
    """Facts about the runs that the report states besides their results.

    Attributes:
        scale: Size of the runs.
        sizes: What the runs of each world were trained on; see `lab.experiments.records`.
        done: Finished runs that the claims need.
        total: Runs that they need.
        bases: Number of base models of each world.
        failed: Failed runs with their reasons.
    """

    scale: Scale
    sizes: Mapping[str, Mapping[str, int]]
    done: int
    total: int
    bases: Mapping[str, int]
    failed: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        markdown: Its text; pictures are named relative to it.
        pictures: SVG text by path.
    """

    markdown: str
    pictures: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write `claims.md`, `claims.html` and the folder of pictures; return the path of the first."""
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        for path, picture in self.pictures.items():
            (folder / path).write_text(picture, encoding="utf-8")
        (folder / "claims.html").write_text(to_html(self), encoding="utf-8")
        (folder / "claims.md").write_text(self.markdown, encoding="utf-8")
        return folder / "claims.md"


def make_report(chapters: Mapping[str, Sequence[Judged]], curves: Curves, facts: Facts) -> Report:
    """Return the report on some claims.

    Args:
        chapters: Claims with their verdicts, by the title of their chapter.
        curves: Curves of the finished runs.
        facts: What is said about the runs.
    """
    shown = {title: judged for title, judged in chapters.items() if judged}
    every = [each for judged in shown.values() for each in judged]
    pictures = {_picture(each): draw(each.measured, curves) for each in every if each.measured.mean.values}
    lines = [
        "# Claims of the papers, tried on a small model",
        "",
        *_introduction(every, facts),
        *_before_training(curves),
        "",
        "## All claims",
        "",
        "| claim | verdict | number and 95 % interval | unit | seeds or rounds | survives Holm | parts with the same verdict |",
        "|---|---|---|---|---|---|---|",
        *(_row(each) for each in every),
        "",
        _summary(every),
    ]
    for title, judged in shown.items():
        lines += ["", f"## {title}"]
        for each in judged:
            lines += _section(each, _picture(each) if _picture(each) in pictures else None, len(every))
    return Report("\n".join(lines) + "\n", pictures)


def to_html(report: Report) -> str:
    """Return a report as one HTML page that holds its pictures."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(report.markdown)
    for path, picture in report.pictures.items():
        data = base64.b64encode(picture.encode()).decode()
        body = body.replace(f'src="{path}"', f'src="data:image/svg+xml;base64,{data}"')
    title = re.sub(r"^# ", "", report.markdown.partition("\n")[0])
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}</body>\n</html>\n'


def _introduction(every: Sequence[Judged], facts: Facts) -> list[str]:
    settings = facts.scale.settings
    most = settings.get("eval_pairs", math.inf)
    sizes = [_size(world, size, facts.bases.get(world, 1), most) for world, size in facts.sizes.items() if size]
    return [
        f"{len(every)} claims of the papers on SGDPO, AlphaDPO and SPO, or about them, each tried as an experiment on an embedded "
        f"world with {facts.scale.seeds} seeds. Claim, measure and rule were written down before any run, except the measure of "
        "cost, as said there; titles and notes were worded more clearly afterwards. Every number, verdict and sentence of a result "
        "is made from the runs by `python -m lab bench claims`.",
        "",
        *(line for size in sizes for line in (size, "")),
        f"A run takes {settings.get('steps')} steps of {settings.get('batch_size')} pairs, with an evaluation before training and "
        f"every {settings.get('eval_every')} steps. With flipped labels, "
        f"{100 * FLIPPED_SHARE:.0f} % of them are flipped, the same ones for every method. Runs of one seed see the same pairs in "
        "the same order, so differences are taken within a seed. The number of a claim is the mean over the seeds with Student's "
        "95 % interval.",
        "",
        "- **confirmed**: the interval lies inside the values that confirm the claim.",
        "- **refuted**: it lies wholly outside; for a claim that X beats Y this means that X is worse.",
        "- **not shown**: neither. These seeds neither confirm nor refute the claim, which is no evidence that there is no effect.",
        "- **preliminary**: runs are missing, so there is no verdict.",
        "- **survives Holm**: the verdict stands when all claims are corrected together (Holm's procedure, two-sided), so that at "
        "most one report in twenty has a false verdict. Without it a verdict is a hint.",
        "- **parts with the same verdict**: where a number is a mean over learning rates or other settings, the verdict is on the "
        "mean; counted are the parts that would have it alone.",
        "- **OURS**: a claim, a bound or a setting that no paper gives and this project has chosen.",
        "",
        f"{facts.done:,} of {facts.total:,} runs are finished. Whatever the verdict, it holds for models and data of this size: a "
        "refuted claim may be true of a model with billions of parameters, and a confirmed one false. DPO, SGDPO, SimPO and "
        "AlphaDPO on a model of 135 million parameters and real pairs are compared on the guide's page Measurements.",
        "",
        "In the pictures a square is a mean with its interval, a dot a seed, and a band the interval over the seeds.",
        "",
        *(f"- **{word}**: {meaning}" for word, meaning in WORDS.items()),
        *(["", f"Failed runs, without which their claims stay preliminary: {'; '.join(facts.failed)}"] if facts.failed else []),
    ]


def _before_training(curves: Curves) -> list[str]:
    """Return the sentence about the oracle reward of the models before training, once runs have recorded it."""
    first = [own.scalars.get("eval/oracle_reward") for label in TRIALS[0].variants for own in curves.get(label, {}).values()]
    known = [float(values[0]) for values in first if values is not None and math.isfinite(values[0])]
    if not known:
        return []
    return ["", f"Before training the models of the first world get an oracle reward of {sum(known) / len(known):.2f} in the mean."]


def _size(world: str, size: Mapping[str, int], bases: int, most: float) -> str:
    own = "Each seed has pairs, prompts and a base model of its own; these numbers are those of the first seed."
    if bases == 1:
        own = "All seeds begin with the same base model, so the intervals hold for this model alone."
    evaluated = f", of which evaluations use {most:,}" if size["held_out"] > most else ""
    return (
        f"On {WORLDS.get(world, world)}, the model has about {size['weights'] / 4e6:.2f} million parameters; a run trains on "
        f"{size['pairs']:,} pairs, and {size['held_out']:,} more are held out{evaluated}. Chosen answers have "
        f"{size['tokens_chosen']} tokens in the median, rejected ones {size['tokens_rejected']}. {own}"
    )


def _row(judged: Judged) -> str:
    claim = judged.measured.claim
    number, count = interval_text(judged.measured.mean, bounds_of(claim)), count_text(judged.measured)
    rounds = " rounds" if claim.cost else ""
    together = ("yes" if judged.corrected else "no") if judged.verdict in ("confirmed", "refuted") else ""
    parts = [] if judged.verdict == "preliminary" or len(judged.measured.parts) < 2 else [*alone(judged).values()]
    if set(parts) == {"not shown"} == {judged.verdict}:  # all of them undecided: no agreement
        parts = []
    agree = f"{parts.count(judged.verdict)} of {len(parts)}" if parts else ""
    cells = (f"[{claim.title}](#{claim.key})", verdict_text(judged), number, claim.unit, f"{count}{rounds}", together, agree)
    return f"| {' | '.join(cells)} |"


def _summary(every: Sequence[Judged]) -> str:
    counts = Counter(each.verdict for each in every)
    parts = f"{counts['confirmed']} confirmed, {counts['refuted']} refuted, {counts['not shown']} not shown"
    if counts["preliminary"]:
        parts += f", {counts['preliminary']} preliminary"
    decided = [each for each in every if each.verdict in ("confirmed", "refuted")]
    weak = [each.measured.claim.title for each in decided if not each.corrected]
    if not decided:
        return f"In all: {parts}."
    if not weak:
        return f"In all: {parts}. Every verdict survives the correction for {len(every)} claims (Holm)."
    return (
        f"In all: {parts}. On average one interval in twenty misses the true value. {len(decided) - len(weak)} of the "
        f"{len(decided)} verdicts survive the correction for {len(every)} claims (Holm); the others are hints: {'; '.join(weak)}."
    )


def _section(judged: Judged, picture: str | None, together: int) -> list[str]:
    measured = judged.measured
    claim = measured.claim
    lines = ["", f'<a id="{claim.key}"></a>', "", f"### {claim.title}", "", f"**Claim.** {claim.sentence}", ""]
    lines += [f"**Source.** {claim.source}.", "", f"**Rule.** The number is {claim.quantity}. {claim.rule}", ""]
    result = " ".join(filter(None, (_capital(result_sentence(judged)), limits_text(judged, together), beside_text(measured))))
    lines += [f"**Result.** {result}"]
    if picture is not None:
        lines += ["", f"![{_alternative(judged)}]({picture})"]
    if len(measured.parts) > 1:
        lines += ["", "| part | number and 95 % interval |", "|---|---|"]
        lines += [f"| {row.label} | {interval_text(row, bounds_of(claim))} |" for row in measured.parts]
    place = place_text(claim, measured)
    compared = f"Compared {place}. " if place else ""
    lines += ["", f"**Conditions.** {compared}{claim.note}".rstrip()]
    if claim.variants:
        trials = [trial.name for trial in TRIALS if set(trial.variants) & set(claim.variants)]
        lines += ["", f"Experiments: {', '.join(f'`{name}`' for name in trials)}."]
    return lines


def _alternative(judged: Judged) -> str:
    claim, mean = judged.measured.claim, judged.measured.mean
    text = f"{claim.title}: {verdict_text(judged)}, {interval_text(mean, bounds_of(claim))}"
    return text.translate(str.maketrans("[]", "()"))


def _picture(judged: Judged) -> str:
    return f"{PICTURES}/{judged.measured.claim.key}.svg"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
