"""From a trained run to a synthetic data set on disk, with its privacy statement."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dpgen.data.export import check_empty, check_space, write_images
from dpgen.generator.drawing import block_size
from dpgen.images.grid import save_grid
from dpgen.images.images import Images
from dpgen.methods.loading import load
from dpgen.networks.proposer import ATTEMPTS, Proposer
from dpgen.privacy.statements.certificate import CertificateError, tree_hash
from dpgen.progress import progress_bar
from dpgen.release.cards import cards_of
from samplers import Sampler, make_sampler


def synthesise(
    run: Path,
    n_images: int,
    out: Path,
    *,
    layout: str = "folder",
    preview: Path | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    steps: int = 50,
    sampler_options: Mapping[str, Any] | None = None,
    guidance: float = 0.0,
    labeller_guidance: float = 0.0,
    network: str = "model",
    device: str = "auto",
    show: bool = False,
    allow_unverified: bool = False,
) -> dict[str, Any]:
    """Writes ``n_images`` samples of the run to ``out`` and returns their privacy statement.

    The statement is the model's: post-processing costs nothing, however many images are drawn. Of a
    run without a guarantee it is the model's notice. The pages that are made of it lie beside the
    images: see `dpgen.release.cards`.

    Args:
        layout: format of the files, one of `dpgen.data.formats.table.written()`.
        preview: where to write a picture of a few images.
        seed: of the sampling; drawn and recorded when ``None``.
        allow_unverified: takes a run that carries a notice instead of a certificate, too.
        guidance, labeller_guidance: weights, of classifier-free guidance and of the private
            labeller's.
        network: which of the released networks: "model", or "teacher" of dp-sad.
        sampler, steps: a sampler by name and its number of steps; ``None`` takes the method's own.
        sampler_options: ``sigma_min`` and ``sigma_max``, which are 0.02 and 20 otherwise, and the
            sampler's own options.
    """
    chosen: Sampler | None = None
    if sampler is not None:
        chosen = make_sampler(sampler, **_numbers(steps, sampler_options))
    if sampler is None and sampler_options:
        raise ValueError(
            f"--set {next(iter(sampler_options))} is an option of a sampler: name one by --sampler"
        )
    check_empty(out)
    if preview is not None and preview.suffix.lower() != ".png":
        raise ValueError(f"--preview must end in .png, got {preview.name!r}")
    if preview is not None and not preview.absolute().parent.is_dir():
        raise ValueError(f"--preview {preview}: there is no folder {preview.absolute().parent}")
    generator = load(run, allow_unverified=allow_unverified)
    facts = generator.facts
    assert facts is not None
    check_space(out, layout, n_images, facts.shape)
    seed = secrets.randbits(31) if seed is None else seed
    chosen = generator.sampler_of(network) if chosen is None else chosen
    where = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
    blocks = generator.sample_blocks(
        n_images,
        sampler=chosen,
        generator=torch.Generator().manual_seed(seed),
        guidance=guidance,
        labeller_guidance=labeller_guidance,
        network=network,
        device=where,
    )
    first: list[Images] = []
    statement: dict[str, Any] = {}
    document = generator.document

    synthetic = {
        "samples": n_images,
        "labels": "uniform",
        "filters": filters(generator.proposer if sampler is None else None),
        "sampler": "none" if chosen is None else repr(chosen),
        "start": "noise" if sampler or generator.proposer is None else "proposals",
        "guidance": guidance,
        "labeller_guidance": labeller_guidance,
        "network": network,
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
        save_grid(Images(*(t[:shown] for t in first[0])), preview, n_classes=facts.n_classes)
    return statement


def _numbers(steps: int, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `make_sampler` takes besides the name."""
    given = dict(options or {})
    if "n_steps" in given:
        raise ValueError(f"n_steps is set with --steps, got --set n_steps={given['n_steps']}")
    return {"n_steps": steps, "sigma_min": 0.02, "sigma_max": 20.0, **given}


def filters(proposer: Proposer | None) -> str:
    """Says what a reader of the set should know about images that were not taken."""
    if proposer is None or proposer.labeller is None:
        return "none"
    return f"drawn again, up to {ATTEMPTS} times, when the private labeller saw another class"
