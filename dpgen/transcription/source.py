"""What a transcription is made of: a run, or a classifier that comes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpgen.configurations.transcription import (
    ALONE,
    CERTIFIED,
    UNVERIFIED,
    TranscriptionSettings,
)
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.methods.loading import load
from dpgen.methods.planned import planned_check
from dpgen.networks.decoder import DecoderConfig
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.seeding import seeded
from dpgen.networks.student import Student
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.certificate import (
    CERTIFICATE,
    COPY,
    NOTICE,
    CertificateError,
    sha256_file,
)
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.statements.transcription import (
    KEY,
    PARENT,
    PARENT_CONFIG,
    chain_of,
    check_trained,
    read_trained,
    transcribed,
)
from dpgen.privacy.statements.transcription_notice import (
    notice_of_lone_classifier,
    notice_of_transcription,
)
from dpgen.privacy.verification.verify import reading, verify
from dpgen.runs.class_counts import CLASS_COUNTS
from dpgen.runs.released import load_network
from dpgen.settings import plain
from dpgen.storage.canonical import digest
from dpgen.storage.files import read_bytes

LARGEST_COPY = 2**30  # bytes of a file that is carried over from a run


@dataclass(frozen=True)
class Source:
    """What a transcription begins with.

    Args:
        teacher: the released classifier.
        proposer: the released generator; None for a lone classifier, which has none.
        facts: public facts of the records.
        budget: of the run that was trained; None for a lone classifier.
        settings: how it is made, with the mode that follows from what is given.
        identity: digest of the run's statement, or of a lone classifier and its facts.
        carried: files of the run that the transcription keeps, by the name that they get.
        document: certificate or notice of the run; None for a lone classifier.
        name: of the run's folder; for a lone classifier the SHA-256 of its file.
    """

    teacher: Labeller | Student
    proposer: Proposer | None
    facts: PublicFacts
    budget: Budget | None
    settings: TranscriptionSettings
    identity: str
    carried: Mapping[str, bytes]
    document: Certificate | Notice | None
    name: str

    def begun(self, seed: int) -> Proposer:
        """Returns the generator to begin with; for a lone classifier an untrained one."""
        if self.proposer is not None:
            return self.proposer
        config = DecoderConfig(self.facts.shape, self.facts.n_classes)
        with seeded(seed):
            return Proposer(ProposerConfig(config, warp=0.0))

    def stated(self, files: Mapping[str, str], trained: Path) -> Certificate | Notice:
        """Makes the document of the finished transcription.

        Args:
            files: SHA-256 of all its files.
            trained: the file with the statement of the trained run, where it is certified.
        """
        files, made = dict(sorted(files.items())), version("dpgen")
        if self.document is None:
            return Notice(notice_of_lone_classifier(
                self.name, settings=plain(asdict(self.settings)), facts=self.facts.to_dict(),
                files=files, version=made,
            ))  # fmt: skip
        parent = self.document.content
        chain = chain_of(parent, self.name)
        if isinstance(self.document, Notice):
            return Notice(notice_of_transcription(parent, chain, files=files, version=made))
        return Certificate(transcribed(read_trained(trained), chain, files=files, version=made))


def read_source(
    path: Path, settings: TranscriptionSettings | None, facts: PublicFacts | None, *,
    allow_unverified: bool,
) -> Source:  # fmt: skip
    """Reads and checks what is to be transcribed.

    Args:
        path: a run folder, or the file of a classifier.
        settings: how; None takes the defaults.
        facts: public facts of the records of a lone classifier; None for a run, which has them.
        allow_unverified: whether to take what has no guarantee.

    Raises:
        UnverifiedClaim: it has no guarantee, and ``allow_unverified`` is False.
        CertificateError: the run does not hold.
        ValueError: it lacks what is needed.
    """
    if path.is_file():
        return _lone(path, settings, facts, allow_unverified=allow_unverified)
    if facts is not None:
        raise ValueError(
            "facts (--facts) are stated for a classifier that comes alone: a run has its own"
        )
    return _run(path, settings or TranscriptionSettings(), allow_unverified=allow_unverified)


def _run(path: Path, settings: TranscriptionSettings, *, allow_unverified: bool) -> Source:
    parent = load(path, allow_unverified=allow_unverified)
    assert parent.folder is not None and parent.facts is not None
    document, carried = parent.document, {}
    settings = _of_mode(settings, CERTIFIED if isinstance(document, Certificate) else UNVERIFIED)
    if isinstance(document, Certificate):
        with reading(path):
            carried = _carried(path, document.content)
        failed = [check.name for check in (*verify(path), planned_check(path)) if check.failed]
        if failed:
            raise CertificateError(f"{path} does not hold ({', '.join(failed)}): see dpgen verify")
    chain_of(document.content, path.resolve().name)  # refuses one that would be too long
    proposer, teacher = parts_of(parent)
    if proposer.decoder is None and settings.refinement.n_steps > 0:
        raise ValueError(
            f"refinement.n_steps must be 0 for {path}, got {settings.refinement.n_steps}: its "
            "generator is a spectrum and has no decoder to refine"
        )
    return Source(
        teacher, proposer, parent.facts, getattr(parent, "budget", None), settings,
        digest(document.content), carried, document, path.resolve().name,
    )  # fmt: skip


def _lone(
    path: Path, settings: TranscriptionSettings | None, facts: PublicFacts | None, *,
    allow_unverified: bool,
) -> Source:  # fmt: skip
    if not allow_unverified:
        run = path.absolute().parent
        whole = any((run / name).is_file() for name in (CERTIFICATE, NOTICE))
        raise UnverifiedClaim(
            f"{path} is a classifier that comes alone: nothing can be guaranteed afterwards about "
            "how it was trained, so that what is made of it gets no certificate. "
            + (f"It lies in a run: name that, {run}. " if whole else "")
            + "--allow-unverified (allow_unverified=True) makes it anyway, with a notice"
        )
    sha256, teacher = sha256_file(path), load_network(path)
    if not isinstance(teacher, Labeller | Student):
        raise ValueError(
            f"{path} must hold a classifier, as student.safetensors of a run, got a "
            f"{type(teacher).__name__}"
        )
    shape, n_classes = teacher.config.shape, teacher.n_classes
    if facts is None:
        raise ValueError(
            f"facts (--facts FILE) are missing: {path} does not say what its classes are called, "
            "nor of how many records it was made. State them in a TOML file: "
            f"shape = {list(shape)}, class_names = [{n_classes} names], n_records = N"
        )
    if (facts.shape, facts.n_classes) != (shape, n_classes):
        raise ValueError(
            f"the facts must be of {n_classes} classes of images of shape {shape}, as {path} is, "
            f"got {facts.n_classes} of {facts.shape}"
        )
    settings = _of_mode(settings or TranscriptionSettings.alone(), ALONE)
    identity = digest({"classifier": sha256, "facts": facts.to_dict()})
    return Source(teacher, None, facts, None, settings, identity, {}, None, sha256)


def _of_mode(settings: TranscriptionSettings, mode: str) -> TranscriptionSettings:
    """Returns the settings with the mode that follows from what is given."""
    if settings.mode not in (CERTIFIED, mode):
        raise ValueError(
            f"mode of this transcription must be {mode!r}, got {settings.mode!r}: it follows from "
            "what is transcribed; leave it out"
        )
    return replace(settings, mode=mode)


def _carried(folder: Path, statement: Mapping[str, Any]) -> dict[str, bytes]:
    """Reads what a transcription keeps of a run, by the names that the files get. Raises
    CertificateError for a run of which none can be made.
    """
    if KEY in statement:
        names = {PARENT: PARENT, PARENT_CONFIG: PARENT_CONFIG}
    else:
        check_trained(statement)
        names = {CERTIFICATE: PARENT, "config.json": PARENT_CONFIG}
    names[COPY] = COPY
    if CLASS_COUNTS in statement["artifact"]["files"]:
        names[CLASS_COUNTS] = CLASS_COUNTS
    return {here: read_bytes(folder / there, LARGEST_COPY) for there, here in names.items()}


def parts_of(parent: PrivateGenerator) -> tuple[Proposer, Labeller | Student]:
    """Returns the released generator and the released classifier of a run."""
    drawn = (parent.networks.get(name) for name in ("model", "proposals"))
    proposer = next((one for one in drawn if isinstance(one, Proposer)), None)
    teacher = parent.classifier or parent.student
    if proposer is None or teacher is None:
        lacking = "a generator that draws images itself" if proposer is None else "a classifier"
        raise ValueError(
            f"a transcription is made of a run that has released {lacking}, and {parent.folder} "
            f"({parent.mechanism_id}) has not: transcribe a run of dpdfd or dpsd, or of pge with "
            "--set mode=sketch --set sketch.classifier.share=0.2"
        )
    return proposer, teacher
