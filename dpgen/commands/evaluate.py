"""`dpgen evaluate`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpgen.commands.new_file import NewFile
from dpgen.commands.next_command import say_next
from dpgen.commands.options import OneOf, quiet_option

if TYPE_CHECKING:
    from dpgen.evaluation.classifiers import ReleasedClassifier


def _features() -> Iterable[str]:
    from dpgen.evaluation.feature_networks import FEATURE_NETWORKS

    return (*FEATURE_NETWORKS, "none")


def _classifiers() -> Iterable[str]:
    from dpgen.evaluation.utility import NETWORKS

    return NETWORKS


class _NameOrPath(OneOf):
    """A name of the table, or a path."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"{super().get_metavar(param, ctx)} or FILE.pt or FOLDER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None  # noqa: ANN401
    ) -> str:  # fmt: skip
        path = Path(value)
        if value not in self.names_fn() and (path.exists() or path.suffix or len(path.parts) > 1):
            return str(value)
        return super().convert(value, param, ctx)


class _Evaluate(click.Command):
    """Lists the metrics below the help, from their table."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from dpgen.evaluation.metrics import METRICS

        for of_features, words in ((True, "features"), (False, "pixels and labels")):
            rows = []
            for name, row in METRICS.items():
                if (row.of_features is not None) == of_features:
                    told = [f"{row.title}: {row.better}er is better", row.meaning]
                    rows.append((name, "; ".join(filter(None, told))))
            if rows:
                with formatter.section(f"Metrics of {words}"):
                    formatter.write_dl(rows)


def _released(run: Path) -> dict[str, ReleasedClassifier]:
    """Loads the private classifiers of a finished run, its student before what it learned from, if
    that was released. Raises ValueError if it released none.
    """
    from dpgen.evaluation.classifiers import ReleasedClassifier
    from dpgen.methods.loading import load
    from dpgen.privacy.statements.certificate import NOTICE

    if (run / NOTICE).is_file():
        raise ValueError(
            f"{run} must have a certificate, and has a notice: scores of its classifier would be "
            "taken for those of a private one. Evaluate a set that `dpgen sample "
            "--allow-unverified` draws from it"
        )
    generator = load(run)
    facts, teacher, student = generator.facts, generator.classifier, generator.student
    networks = [one for one in (student, teacher) if one is not None]
    if facts is None or not networks:
        raise ValueError(
            f"{run} must be a run with a private classifier, and it has none: evaluate a set of "
            "`dpgen sample`, or train dpdfd, or pge with --set mode=sketch "
            "--set sketch.classifier.share=0.2"
        )
    made_for = facts.shape, facts.class_names
    if len(networks) == 1:
        return {str(run): ReleasedClassifier(networks[0], *made_for)}
    return {
        f"{run}: student": ReleasedClassifier(networks[0], *made_for, networks[1]),
        f"{run}: teacher": ReleasedClassifier(networks[1], *made_for),
    }


def _is_run(path: Path) -> bool:
    """Returns whether a path is the folder of a finished run, with or without a guarantee."""
    from dpgen.privacy.statements.certificate import CERTIFICATE, NOTICE

    stated = any((path / name).is_file() for name in (CERTIFICATE, NOTICE))
    return stated and (path / "config.json").is_file()


@click.command(cls=_Evaluate)
@click.argument(
    "given_sets", metavar="SETS...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--reference", required=True, metavar="DATA",
    help="The real images: `digits`, or a path or address (see `dpgen --help`).",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    default="test",
    show_default=True,
    help="The split of the reference that sets are compared with and classifiers are tested on.",
)
@click.option(
    "--size", type=int, metavar="PIXELS", help="Resize the reference, as for train."
)
@click.option(
    "--channels", type=click.Choice(["1", "3"]), help="Convert the reference, as for train."
)
@click.option(
    "--value-range", metavar="LOW,HIGH",
    help="Black and white of a reference of floats or of grey deeper than 8 bits, as for train.",
)  # fmt: skip
@click.option(
    "--classes", metavar="N or NAME,NAME",
    help="The classes of sets or a reference with labels that name none; a reference that names "
    "none has those of the first set.",
)  # fmt: skip
@click.option(
    "--label-column", metavar="NAME", help="The column of the reference's labels, as for train."
)
@click.option(
    "--network",
    "networks",
    type=OneOf(_classifiers),
    multiple=True,
    default=["cnn"],
    show_default=True,
    help="Classifier to train on each set and to test on real images. Repeat for several.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many classifiers of each kind to train on a set; from 2 on the table shows mean and "
    "standard error.",
)
@click.option(
    "--features",
    type=_NameOrPath(_features),
    default="classifier",
    show_default=True,
    help="The network that metrics of features look through. `classifier` is one trained on the "
    "reference's training split; `none` measures none of them. FILE.pt is a TorchScript module "
    "from float images (N, 3, H, W) to features (N, D): it runs code, so take only one that you "
    "trust. FOLDER holds config.json and model.safetensors of a timm or transformers model, as of "
    "DINO, and needs that package.",
)
@click.option(
    "--features-range", metavar="LOW,HIGH",
    help="Black and white in the images that FILE.pt is given.  [default: 0,1]",
)  # fmt: skip
@click.option(
    "--features-size", type=click.IntRange(1), metavar="PIXELS",
    help="Side of the images that FILE.pt is given; default: as they are.",
)  # fmt: skip
@click.option(
    "--inception-weights",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Weights for --features inception, where torch hub has no copy of them and there is no "
    "internet.",
)
@click.option(
    "--cache",
    metavar="FOLDER",
    type=NewFile(folder=True),
    help="Keeps the reference's features and the classifier behind them, so that they need not be "
    "made again for the same reference. They are as private as the reference.",
)
@click.option(
    "--nearest",
    "nearest_to",
    metavar="FOLDER",
    type=NewFile(folder=True),
    help="Write pictures of samples beside the nearest records of the reference's training split, "
    "and add the share of samples that are as near to a record as the nearest 1 % of held-out "
    "images are. The pictures show private records.",
)
@click.option(
    "--preview",
    type=NewFile(),
    help="Write a picture with some images of the reference and of each set.",
)
@click.option(
    "--no-real", "real", flag_value=False, default=True,
    help="Do not measure real images of the other split for comparison, which takes as long as one "
    "more set.",
)  # fmt: skip
@click.option(
    "--classifier", "runs", metavar="RUN", multiple=True, type=click.Path(path_type=Path),
    help="Measure the private classifier that this run released, too. Repeat.",
)  # fmt: skip
@click.option(
    "--fair", metavar="FILE", type=click.Path(path_type=Path),
    help="Compare groups, too, by a classifier of targets for each column: parity gap, "
    "equalised-odds gap and accuracy of each group. FILE gives target and group of each class, as "
    "for sample --fair.",
)  # fmt: skip
@click.option(
    "--json", "json_file", type=NewFile(),
    help="Write the scores to this file, too.",
)
@quiet_option
def evaluate(
    given_sets: tuple[Path, ...], reference: str, json_file: Path | None, channels: str | None,
    value_range: str | None, classes: str | None, features_range: str | None, quiet: bool,
    runs: tuple[Path, ...], fair: Path | None, **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Compare synthetic SETS with real images: by FID and similar metrics, and by the accuracy on
    real images of classifiers trained on each set alone. Beside the sets stand real images of the
    reference's other split, measured in the same way: the best that can be hoped for. A finished
    run among SETS is measured by the private classifiers that it released, as by --classifier.

    Nothing is charged, and no epsilon covers scores against a private reference: they are for the
    owner's eyes. Under `accelerate launch` several processes share the feature extraction.
    """
    from accelerate import PartialState

    from dpgen.commands.inputs import parse_value_range
    from dpgen.evaluation.evaluate import scores
    from dpgen.evaluation.summary import summary
    from dpgen.images.classes import parse_classes
    from dpgen.images.fair_classes import read_fair

    sets = [path for path in given_sets if not _is_run(path)]
    runs = (*runs, *(path for path in given_sets if _is_run(path)))
    released = {name: one for run in runs for name, one in _released(run).items()}
    number = int(channels) if channels else None
    named = None if classes is None else parse_classes(classes)
    found = scores(
        sets, reference, channels=number, value_range=parse_value_range(value_range),
        classes=named, features_range=parse_value_range(features_range, "--features-range"),
        classifiers=released, fair=None if fair is None else read_fair(fair),
        show=not quiet, **given,
    )  # fmt: skip
    # gloo keeps the last results in a thread of its own, and one that outlives Python aborts it.
    PartialState().destroy_process_group()
    if not PartialState().is_main_process:
        return
    for name, one in found.sets.items():
        if one.learned_from_reference:
            click.echo(
                f"warning: {name} comes from a generator that learned from the reference: one that "
                "copies it scores well here",
                err=True,
            )
    if given["nearest_to"] is not None:
        click.echo(
            f"{given['nearest_to']} shows training records: it is covered by no epsilon", err=True
        )
    if given["preview"] is not None and found.private:
        click.echo(f"{given['preview']} shows private records: no epsilon covers it", err=True)
    if json_file is not None:
        from dpgen.storage.durable import replace_durably

        replace_durably(json_file, json.dumps(found.to_dict(), indent=1).encode())
    click.echo(summary(found))
    stated = [path for path in sets if (path / "privacy.json").is_file()]
    if stated:
        say_next("verify", stated[0])
