"""From a trained run to a synthetic data set on disk, with its privacy statement."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpgen.data.export import check_empty, check_space, write_images
from dpgen.generator.draw import Draw
from dpgen.generator.drawing import block_size
from dpgen.generator.labels import RELEASED, Labels
from dpgen.images.grid import save_grid
from dpgen.images.images import Images
from dpgen.methods.loading import load
from dpgen.networks.proposer import ATTEMPTS, Proposer
from dpgen.privacy.statements.certificate import CertificateError, tree_hash
from dpgen.progress import progress_bar
from dpgen.release.cards import cards_of

N_TOLD = 100  # classes whose counts a statement lists


def synthesise(
    run: Path,
    n_images: int | None,
    out: Path,
    draw: Draw = Draw(device="auto"),  # noqa: B008  immutable
    *,
    labels: Labels | None = None,
    layout: str = "folder",
    preview: Path | None = None,
    seed: int | None = None,
    show: bool = False,
    allow_unverified: bool = False,
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
        layout: format of the files, one of `dpgen.data.formats.table.written()`.
        preview: where to write a picture of a few images.
        seed: of the sampling; drawn and recorded when ``None``.
        allow_unverified: takes a run that carries a notice instead of a certificate, too.
    """
    draw.built()  # a sampler that cannot be is refused before anything is read
    check_empty(out)
    if preview is not None and preview.suffix.lower() != ".png":
        raise ValueError(f"--preview must end in .png, got {preview.name!r}")
    if preview is not None and not preview.absolute().parent.is_dir():
        raise ValueError(f"--preview {preview}: there is no folder {preview.absolute().parent}")
    generator = load(run, allow_unverified=allow_unverified)
    facts = generator.facts
    assert facts is not None
    total = n_images
    if isinstance(labels, Mapping):
        total = sum(labels.values())
    elif labels is not None and labels != RELEASED:
        total = len(labels)
    if total is not None:
        check_space(out, layout, total, facts.shape)  # before so many labels are made
    chosen = generator.labels(labels, n_images)
    n_images = len(chosen)
    seed = secrets.randbits(31) if seed is None else seed
    drawing = generator.drawing(draw)
    rng = torch.Generator().manual_seed(seed)
    blocks = generator.sample_blocks(n_images, draw, labels=chosen, generator=rng)
    first: list[Images] = []
    statement: dict[str, Any] = {}
    document = generator.document

    synthetic = {
        "samples": n_images,
        "labels": told_labels(labels, chosen, facts.class_names),
        "filters": filters(drawing.proposer),
        "sampler": "none" if drawing.sampler is None else repr(drawing.sampler),
        "start": "noise" if drawing.proposer is None else "proposals",
        "guidance": draw.guidance,
        "labeller_guidance": draw.labeller_guidance,
        "network": draw.network,
        "seed": seed,
        "format": layout,
    }

    def stated(files: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return document.inherited(files=files, synthetic=synthetic).content
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise CertificateError(f"the statement of {run} lacks or misplaces {error}") from None

    def certificate(folder: Path) -> dict[str, Any]:
        statement.update(stated(tree_hash(folder)))
        return statement

    stated({})  # a statement that nothing can be inherited from is refused before the first image

    with progress_bar("sampling", -(-n_images // block_size(facts.shape)), show=show) as advance:

        def counted() -> Iterator[Images]:
            for block in blocks:
                if not first:
                    first.append(block)
                yield block
                advance()

        write_images(
            counted(),
            out,
            format=layout,
            n_images=n_images,
            class_names=facts.class_names,
            certificate=certificate,
            certificate_name=document.name,
            pages_fn=cards_of,
        )
    if preview is not None:
        shown = 10 * min(facts.n_classes, 10)
        save_grid(first[0][:shown], preview, n_classes=facts.n_classes)
    return statement


def told_labels(given: Labels | None, labels: Tensor, class_names: Sequence[str]) -> str:
    """Describes in words how many images each class has and who chose them; of many classes the
    first.
    """
    if given is None:
        return "uniform"
    whose = RELEASED if isinstance(given, str) else "chosen"
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    told = [f"{count} of {name}" for name, count in zip(class_names, counts, strict=True) if count]
    some = ", ".join(told[:N_TOLD])
    return f"{whose}: {some}" + (f" and of {len(told) - N_TOLD} more" if told[N_TOLD:] else "")


def filters(proposer: Proposer | None) -> str:
    """Says what a reader of the set should know about images that were not taken."""
    if proposer is None or proposer.labeller is None:
        return "none"
    return f"drawn again, up to {ATTEMPTS} times, when the private labeller saw another class"
