"""Scores as a table for people, and in words how they were measured."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from dpgen.evaluation.classifiers import N_BINS, ClassifierScores
from dpgen.evaluation.evaluation import Evaluation
from dpgen.evaluation.features import ClassifierFeatures
from dpgen.evaluation.fidelity import Fidelity
from dpgen.evaluation.inception import Inception
from dpgen.evaluation.metrics import ordered
from dpgen.evaluation.scores import RealScores, Scores
from dpgen.evaluation.utility import FEW_RECORDS, Utility, UtilityProtocol

WIDTH = 92  # of the words below the table
BETTER = {"low": "lower", "high": "higher", None: ""}
REAL = "real images"
COPIES = "as near as 1 % of held-out"
CLASSIFIER, CALIBRATION, AGREEMENT = (
    "private classifier", "its calibration error", "agrees with its teacher",
)  # fmt: skip


def summary(scores: Scores) -> str:
    """Writes a row a metric, the sets side by side, then how they were measured."""
    head = (
        f"Against {_number(scores.n_reference)} real images ({scores.reference}, {scores.split})"
    )
    return "\n".join([head, "", *_aligned(_rows(scores)), "", *_paragraphs(scores)])


def _rows(scores: Scores) -> list[list[str]]:
    columns = {name: one.evaluation for name, one in zip(
        _heads(scores), scores.sets.values(), strict=True
    )}  # fmt: skip
    if isinstance(scores.real, RealScores):
        columns[REAL] = scores.real.evaluation
    found = [(one, one.metrics) for one in columns.values()]
    rows = [["metric", "better", *columns]]
    if found:
        rows.append(["images", "", *(_number(one.n_images) for one, _ in found)])
    for metric in ordered(name for _, metrics in found for name in metrics):
        values = [metrics.get(metric.name) for _, metrics in found]
        decimals = metric.decimals(e.mean for e in values if e is not None)
        cells = ["-" if e is None else metric.text(e, decimals) for e in values]
        rows.append([metric.title, BETTER[metric.better], *cells])
    if any(one.utilities for one, _ in found):
        rows.append(["weakest class", "", *(_weakest(one, scores.class_names) for one, _ in found)])
    if scores.fairness is not None:
        rows += scores.fairness.rows()
    copying = [one.copying for one in scores.sets.values()]
    if copying and all(one is not None for one in copying):
        shares = [f"{100 * one.share(0.01):.1f} %" for one in copying if one is not None]
        rows.append([COPIES, "lower", *shares, *["1.0 %"] * (len(found) - len(shares))])
    return _with_classifiers(rows, scores)


def _with_classifiers(rows: list[list[str]], scores: Scores) -> list[list[str]]:
    """Adds a column for each released classifier, and one row that all of them share."""
    if not scores.classifiers:
        return rows
    n = len(scores.classifiers)
    head, *others = rows
    accuracies = [f"{100 * one.accuracy:.1f} %" for one in scores.classifiers.values()]
    told = scores.classifiers.values()
    errors = [f"{one.calibration_error:.3f}" for one in told]
    last = [[CLASSIFIER, "higher", *accuracies], [CALIBRATION, "lower", *errors]]
    if any(one.agreement is not None for one in told):
        agreed = (one.agreement for one in told)
        cells = ["-" if share is None else f"{100 * share:.1f} %" for share in agreed]
        last.append([AGREEMENT, "", *cells])
    blank = ["-"] * (len(head) - 2)
    return [
        [*head, *scores.classifiers],
        *([*row, *["-"] * n] for row in others),
        *([title, better, *blank, *cells] for title, better, *cells in last),
    ]


def _heads(scores: Scores) -> list[str]:
    """Returns the sets' names, without the folders before them where that tells them apart."""
    short = [Path(path).name or path for path in scores.sets]
    return short if len({*short, REAL}) == len(short) + 1 else list(scores.sets)


def _weakest(one: Evaluation, class_names: Sequence[str]) -> str:
    """Names the class that the first network's first seed knows least."""
    first = next(iter(one.utilities.values()))[0]
    share, k = min((p, k) for k, p in enumerate(first.per_class) if p is not None)
    return f"{class_names[k]} ({100 * share:.0f} %)"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, better, *cells in rows:
        right = (c.rjust(w) for c, w in zip(cells, widths[2:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), better.ljust(widths[1]), *right]).rstrip())
    return lines


def _paragraphs(scores: Scores) -> Iterable[str]:
    told = []
    if scores.sets:
        one = next(iter(scores.sets.values())).evaluation
        told.append(("Real images", _of_real(scores)))
        if one.fidelity is not None:
            told.append(("Fidelity", _of_fidelity(one.fidelity, scores)))
            told.append(("Features", _of_features(one.fidelity)))
        told += [("Accuracy", _of_accuracy(each, scores)) for each in one.utilities.values()]
        if scores.fairness is not None:
            told.append(("Fairness", scores.fairness.words()))
        told += _meanings(one)
    told += [
        (f"Private classifier of {name}", _of_classifier(one, scores.class_names))
        for name, one in scores.classifiers.items()
    ]
    if scores.classifiers:
        told.append((
            "Calibration",
            f"`{CALIBRATION}` is the mean gap between confidence and accuracy in "
            f"{N_BINS} bins of confidence; 0 where a classifier is as sure as it is right.",
        ))  # fmt: skip
    if any(each.copying is not None for each in scores.sets.values()):
        told.append((
            "Copies",
            f"`{COPIES}` is the share of samples as near to a training record as the nearest 1 % "
            "of held-out images are: about 1 % where nothing is copied.",
        ))  # fmt: skip
    told.append(("Privacy", charge(scores.private)))
    for name, words in told:
        yield textwrap.fill(
            f"{name}: {words}", WIDTH, subsequent_indent="  ", break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip


def charge(private: bool) -> str:
    """Says whether the numbers were charged to a budget.

    >>> charge(False)
    'not charged: the reference is public, so these numbers cost no privacy.'
    """
    if private:
        return (
            "not charged, for the owner's eyes only. The numbers were computed from private images "
            "without noise, and no epsilon covers these numbers: do not publish them, and do not "
            "choose by them what to publish."
        )
    return "not charged: the reference is public, so these numbers cost no privacy."


def _of_classifier(one: ClassifierScores, class_names: Sequence[str]) -> str:
    known = [(share, k) for k, share in enumerate(one.per_class) if share is not None]
    share, k = min(known)
    told = (
        f"right in {100 * one.accuracy:.1f} % of the real images, in {100 * one.balanced:.1f} % as "
        f"a mean over classes, least often in {class_names[k]} ({100 * share:.0f} %); released by "
        "the run itself, under its guarantee, and "
    )
    if one.agreement is None:
        return f"{told}trained on no synthetic image."
    return f"{told}trained on images of the run's generator alone."


def _of_real(scores: Scores) -> str:
    real = scores.real
    if isinstance(real, str):
        return f"no column of them for comparison, as {real}."
    which, n = f"of the {real.split} split", real.evaluation.n_images
    drawn = f"{_number(n)} of the {_number(real.n_there)}" if n < real.n_there else _number(n)
    return (
        f"the last column is the same measured on {drawn} real images {which}, in the place of a "
        "synthetic set: about the best that a generator can reach."
    )


def _of_fidelity(found: Fidelity, scores: Scores) -> str:
    protocol = found.protocol
    sizes = {one.evaluation.n_images for one in scores.sets.values()}
    ours = " or ".join(_number(n) for n in sorted(sizes))
    return (
        f"{ours} synthetic images against {_number(protocol.n_reference)} real ones of the "
        f"{protocol.reference_split} split, all rounded to 8 bits as in a file. Precision, recall, "
        f"density and coverage compare {_number(protocol.n_neighbour_images)} of each side by "
        f"their {protocol.n_neighbours_precision} or {protocol.n_neighbours_density} nearest; KID "
        f"is the mean over {protocol.n_kid_subsets} pairs of subsets of "
        f"{_number(protocol.kid_subset_size)}; seed {protocol.seed}. FID falls with the number of "
        "images: compare it at equal numbers only."
    )


def _of_features(found: Fidelity) -> str:
    return (
        f"{found.network}, SHA-256 {found.network_sha256[:16]}..., {_number(found.n_features)} "
        f"numbers an image; {_recipe(found)}."
    )


def _recipe(found: Fidelity) -> str:
    """Says what a feature network is, and what its numbers compare with."""
    recipe = found.network_recipe
    if found.network == ClassifierFeatures.name:
        return (
            f"the last hidden layer of a {recipe['network']} classifier of "
            f"{_number(recipe['n_images'])} real images of the train split after "
            f"{_number(recipe['n_steps'])} steps of {recipe['batch_size']}, "
            "for sets against this reference only: published FID is another number"
        )
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recipe.items())
    if found.network == Inception.name:
        return f"the network of published FID ({told})"
    return f"{told}; for sets seen through this very network only"


def _meanings(one: Evaluation) -> list[tuple[str, str]]:
    """Says what the metrics of features mean; nothing where none has a meaning."""
    each = {m.title.split()[-1]: m for m in ordered(one.metrics) if m.meaning}
    words = "; ".join(f"{n}, {BETTER[m.better]} is better ({m.meaning})" for n, m in each.items())
    return [("Metrics", f"{words}.")] if words else []


def _of_accuracy(results: Sequence[Utility], scores: Scores) -> str:
    first = results[0]
    recipe, seeds = first.protocol, [one.seed for one in results]
    told = "seed 0" if seeds == [0] else f"mean and standard error of seeds 0 to {seeds[-1]}"
    usual = UtilityProtocol.of(recipe.network)
    few = "" if recipe == usual else (
        f" (not {_number(usual.n_steps)}, as there are fewer than {_number(FEW_RECORDS)} real ones "
        "to learn from)"
    )  # fmt: skip
    used = "all of them" if recipe.n_train is None else f"at most {_number(recipe.n_train)}"
    return (
        f"a {recipe.network} classifier that saw only the images of its column ({used}), tested on "
        f"the {_number(scores.n_reference)} real images; {_number(recipe.n_steps)} steps of "
        f"{recipe.batch_size} images{few}, AdamW from {recipe.learning_rate:g}, no augmentation; "
        f"{told}."
    )


def _number(n: int | None) -> str:
    return "all" if n is None else f"{n:,}"
