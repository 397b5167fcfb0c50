"""From a trained run to a synthetic data set on disk, with its privacy statement."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpgen.data.export import check_empty, check_space
from dpgen.generator.draw import Draw
from dpgen.generator.drawing import Drawing, DrawnInTurn, Redraws, n_blocks
from dpgen.generator.fair_labels import Fair
from dpgen.generator.labels import Labels
from dpgen.images.grid import save_grid
from dpgen.images.images import Images
from dpgen.methods.loading import load
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import ATTEMPTS
from dpgen.privacy.statements.certificate import LARGEST_STATEMENT, statement_bytes
from dpgen.privacy.statements.outside import check_new_file
from dpgen.progress import progress_bar
from dpgen.storage.canonical import digest
from dpgen.synthetic.certified import stated, write_certified
from dpgen.synthetic.labels import told_fair, told_labels
from dpgen.synthetic.part import Share, images_in, whole_of, write_part
from dpgen.synthetic.processes import Work, drawn_by


def synthesise(
    run: Path,
    n_images: int | None,
    out: Path,
    draw: Draw = Draw(device="auto"),  # noqa: B008  immutable
    *,
    labels: Labels | None = None,
    fair: Fair | None = None,
    layout: str = "folder",
    preview: Path | None = None,
    seed: int | None = None,
    show: bool = False,
    allow_unverified: bool = False,
    jobs: int = 1,
    share: Share | None = None,
) -> dict[str, Any]:
    """Writes ``n_images`` samples of the run to ``out`` and returns their privacy statement.

    The statement is the model's: post-processing costs nothing, however many images are drawn. Of a
    run without a guarantee it is the model's notice. The pages that are made of it lie beside the
    images: see `dpgen.release.cards`.

    Args:
        n_images: how many; ``None`` takes as many as there are labels.
        draw: how they are drawn; the method's own way unless it says otherwise.
        labels: as for `dpgen.generator.labels.labels_of`; ``None``: the same number of each class,
            but for a remainder.
        fair: target and group of each class, which are then drawn independently of each other, as
            `dpgen.generator.fair_labels.FairLabels` says; ``labels`` is None, ``"uniform"`` or
            ``"released"``.
        layout: format of the files, one of `dpgen.data.formats.table.written()`.
        preview: where to write a picture of a few images.
        seed: of the sampling; drawn and recorded when ``None``.
        allow_unverified: takes a run that carries a notice instead of a certificate, too.
        jobs: number of processes that draw, as `dpgen.synthetic.processes.drawn_by` says.
        share: writes this part of the set alone, for `dpgen.synthetic.join.join`; it needs a seed.
            Returned is then what the statement of the whole set would say, without its files.
    """
    draw.built()  # a sampler that cannot be is refused before anything is read
    check_empty(out)
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    if share is not None and seed is None:
        raise ValueError("--shard needs --seed, the same for all parts: they are of one set")
    if preview is not None:
        check_new_file(preview, "--preview", ".png")
    if preview is not None and preview.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"--preview {preview} lies in the set: name a place outside {out}")
    generator = load(run, allow_unverified=allow_unverified)
    facts = generator.facts
    assert facts is not None
    total = n_images
    if isinstance(labels, Mapping):
        total = sum(labels.values())
    elif labels is not None and not isinstance(labels, str):
        total = len(labels)
    if total is not None and share is None:
        check_space(out, layout, total, facts.shape)  # before so many labels are made
    balanced = None if fair is None else generator.fair_labels(fair, labels)
    chosen = generator.labels(
        labels if balanced is None else balanced.counts(n_images), n_images
    )  # fmt: skip
    n_images = len(chosen)
    found = torch.bincount(chosen, minlength=facts.n_classes).tolist()
    counts = dict(zip(facts.class_names, found, strict=True))
    seed = secrets.randbits(31) if seed is None else seed
    drawing = generator.drawing(draw)
    document = generator.document
    synthetic: dict[str, Any] = {
        "samples": n_images,
        "labels": told_labels(labels, counts, balanced),
        **told_fair(balanced, n_images),
        "filters": filters(drawing.filter),
        "sampler": "none" if drawing.sampler is None else repr(drawing.sampler),
        "start": "noise" if drawing.proposer is None else "proposals",
        "guidance": draw.guidance,
        "labeller_guidance": draw.labeller_guidance,
        "network": draw.network,
        "precision": "bf16" if drawing.half else "float32",
        "seed": seed,
        "format": layout,
        **repeats(drawing, chosen),
    }
    # A statement that nothing can be inherited from is refused before the first image.
    statement = dict(stated(document, {}, synthetic, run))
    if fair is not None and len(statement_bytes(statement)) > LARGEST_STATEMENT // 2:
        raise ValueError(
            f"--fair: {facts.n_classes} classes are too many to be listed in a statement, which "
            f"has at most {LARGEST_STATEMENT} bytes"
        )
    blocks = range(n_blocks(n_images, facts.shape))
    if share is not None:
        blocks = share.blocks(n_images, facts.shape)
        device = torch.device(drawing.device).type
        whole = whole_of(document, synthetic, chosen, facts.shape, facts.class_names, device)
        check_space(out, "npz", images_in(share, whole), facts.shape)
    first: list[Images] = []
    redraws = Redraws()
    with (
        progress_bar("sampling", len(blocks), show=show) as advance,
        ExitStack() as processes,
    ):
        if jobs == 1:
            rng = torch.Generator().manual_seed(seed)
            drawn = generator.sample_blocks(
                n_images, draw, labels=chosen, generator=rng, blocks=blocks, redraws=redraws
            )
        else:
            mark = digest(document.content)
            work = Work(run, mark, draw, chosen, seed, allow_unverified)
            drawn = processes.enter_context(drawn_by(jobs, work, blocks, redraws))

        def counted() -> Iterator[Images]:
            for block in drawn:
                if not first:
                    first.append(block)
                yield block
                advance()
            if drawing.filter is not None and share is None:
                synthetic["redraws"] = redraws.told  # known now, before the statement is made

        if share is not None:
            write_part(counted(), out, share, whole, redraws)
        else:
            statement = write_certified(
                counted(), out, document, synthetic, facts.class_names, run
            )
    if preview is not None:
        shown = 10 * min(facts.n_classes, 10)
        save_grid(first[0][:shown], preview, n_classes=facts.n_classes)
    return statement


def filters(labeller: Labeller | None) -> str:
    """Says what a reader of the set should know about images that were not taken."""
    if labeller is None:
        return "none"
    return f"drawn again, up to {ATTEMPTS} times, when the private labeller saw another class"


def repeats(drawing: Drawing, labels: Tensor) -> dict[str, str]:
    """Says how often one image stands in the set, under the name "repeats", where the model holds a
    fixed number of images; an empty table for models that draw every image anew.
    """
    network = drawing.network
    if not isinstance(network, DrawnInTurn):
        return {}
    most, n = int(torch.bincount(labels).max()), network.n_distinct
    if most <= n:
        return {"repeats": "none"}
    again = "changed at random" if network.changes else "unchanged"
    times = f"up to {-(-most // n)} times, {again} from the second time on"
    return {"repeats": f"the model holds {n} images of each class: one stands here {times}"}
