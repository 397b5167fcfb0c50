"""Makes a transcription of a run: another generator and another student, without its records."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from torch import nn

from dpgen.arguments import speaks_python
from dpgen.configurations.transcription import TranscriptionSettings
from dpgen.images.facts import PublicFacts
from dpgen.methods.transcription import Transcription
from dpgen.networks.labeller import Labeller
from dpgen.privacy.statements.certificate import CERTIFICATE, COPY, NOTICE, sha256_file
from dpgen.privacy.statements.transcription import METHOD, PARENT
from dpgen.runs.context import Hardware, Workplace, in_memory
from dpgen.runs.folder import RunFolder, sweep
from dpgen.runs.released import checked_document, hashes, write_files
from dpgen.settings import CONFIG_SCHEMA, plain, read_config
from dpgen.storage.durable import replace_durably
from dpgen.training.data_free import refine
from dpgen.training.students import teach
from dpgen.transcription.source import Source, read_source


@speaks_python
def transcribe(
    run: str | Path,
    out: str | Path,
    *,
    settings: TranscriptionSettings | None = None,
    seed: int | None = None,
    hardware: Hardware | None = None,
    show: bool = False,
    allow_unverified: bool = False,
    facts: PublicFacts | None = None,
) -> Transcription:
    """Makes another generator and another student of a run, without its records.

    The generator begins as the run's and is refined by the run's released classifier; the student
    learns from the generator's images. Guarantee: post-processing (theorem A3); the new run folder
    states the guarantee of ``run``, names it, and is verified without it. Nothing is charged, and
    ``run`` is not changed. What is made of a run with a notice, or of a classifier that comes
    alone, has no guarantee and gets a notice.

    Args:
        run: a finished run that draws images itself and has released a classifier: of dpdfd, dfkd,
            dpsd, dgd, pge in mode sketch, or a transcription; or the file of a classifier.
        out: run folder to make; an unfinished transcription of the same run and settings in it is
            resumed, a finished one is loaded.
        settings: how; None takes the defaults.
        seed: seed of all randomness; None draws and records one.
        hardware: device; None takes the default.
        show: whether to show progress bars on standard error.
        allow_unverified: whether to take what has no guarantee.
        facts: public facts of the records of a lone classifier; a run has its own.

    Raises:
        UnverifiedClaim: there is no certificate, and ``allow_unverified`` is False.
        CertificateError: the run does not hold.
        ValueError: the run lacks what is needed, or ``out`` holds something else.
    """
    source, folder = read_source(
        Path(run), settings, facts, allow_unverified=allow_unverified
    ), Path(out)  # fmt: skip
    if seed is None:
        held = RunFolder.seed_of(folder)
        seed = secrets.randbits(31) if held is None else held
    found = Transcription(budget=source.budget, settings=source.settings)
    config = {
        "schema": CONFIG_SCHEMA, "method": METHOD, "version": version("dpgen"),
        "budget": None if source.budget is None else asdict(source.budget), "seed": seed,
        "settings": plain(asdict(source.settings)), "parent": source.identity,
    }  # fmt: skip
    if any((folder / name).exists() for name in (CERTIFICATE, NOTICE)):
        document = checked_document(folder)
        if read_config(folder) != config:
            raise ValueError(
                f"the run folder {folder} holds another finished run: choose another folder"
            )
        sweep(folder)
        return found._restore(folder, document)
    with closing(RunFolder(folder, config)) as place:
        accelerator = (hardware or Hardware()).accelerator()
        work = Workplace(place.checkpoints, accelerator, None, seed, show)
        with in_memory(lambda: "free some, then run the same command again"):
            learned = _made(source, work)
        found.facts, found.folder, found.networks = source.facts, folder, learned
        write_files(folder, config, source.facts.to_dict(), learned)
        for name, content in source.carried.items():
            replace_durably(folder / name, content)
        found._preview(folder / "preview.png", show)
        files = hashes(folder)
        if COPY in source.carried:
            files[COPY] = sha256_file(folder / COPY)
        document = source.stated(files, folder / PARENT)
        replace_durably(folder / document.name, document.to_bytes())
        place.finish()
    return found


def _made(source: Source, work: Workplace) -> Mapping[str, nn.Module]:
    """Makes the networks that a transcription releases, by file name."""
    model, teacher, settings = source.begun(work.seed), source.teacher, source.settings
    if model.decoder is not None:
        decoder = refine(model.decoder, teacher, settings.refinement, settings.student, work)
        model = model.with_decoder(decoder)
    networks = {"model": model, "student": teach(model, teacher, settings.student, work)}
    if isinstance(teacher, Labeller):
        networks["classifier"] = teacher
    return {name: one.cpu().eval().requires_grad_(False) for name, one in networks.items()}
