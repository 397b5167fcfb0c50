"""A transcription: a generator and a student that were made of a run's networks, without its data.

"Privacy-Preserving Model Transcription with Differentially Private Synthetic Distillation", TPAMI
2026, arXiv 2601.19090, transcribes a model that was trained without protection, and noises what it
answers; what that is worth is said in `dpgen.methods.dpsd`. Here the model is a run with a
certificate: generator and teacher are released, so that whatever is made of them is post-processing
and has the same guarantee (theorem A3). Of a run without a certificate, or of a classifier that
comes alone, whatever is made has none, and carries a notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from torch import nn

from dpgen.configurations.transcription import ALONE, UNVERIFIED, TranscriptionSettings
from dpgen.data.private import PrivateDataset
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.transcription import METHOD
from dpgen.runs.context import Hardware, Workplace
from dpgen.runs.kinds import BY_NAME


class Transcription(PrivateGenerator):
    """A class-conditional generator and a student with the guarantee of the run that they were made
    of. It learns from no records: see `dpgen.transcription.transcribing`.

    Args:
        budget: of that run; None where a classifier that came alone is at its beginning.
    """

    id = METHOD
    Settings = TranscriptionSettings
    unverified_modes = frozenset({UNVERIFIED, ALONE})
    kinds: ClassVar[Mapping[str, str]] = {**BY_NAME, "model": "proposer"}

    def __init__(
        self, *, budget: Budget | None, settings: TranscriptionSettings | None = None
    ) -> None:
        self.settings = settings or TranscriptionSettings()
        if budget is None and self.certified:
            raise ValueError("a transcription of a certified run must have its budget")
        if budget is not None:
            self.budget = budget

    def __repr__(self) -> str:
        if self.certified:
            return super().__repr__()
        return f"Transcription(mode={self.settings.mode!r}, no guarantee; in {self.folder})"

    def resolve(self, facts: PublicFacts) -> TranscriptionSettings:
        settings: TranscriptionSettings = self.settings
        return settings

    def _promise(self, facts: PublicFacts) -> NoReturn:
        raise ValueError(
            "a transcription learns from no records, so that it plans and charges nothing: it is "
            "made of a run, by dpgen.transcribe or `dpgen transcribe RUN`. What was trained at its "
            "beginning is planned and audited by dpgen.methods.loading.load_trained or `dpgen "
            "audit RUN`"
        )

    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> NoReturn:
        self._promise(facts)

    def _learn(
        self, data: PrivateDataset, promise: Any, work: Workplace  # noqa: ANN401
    ) -> Mapping[str, nn.Module]:  # fmt: skip
        self._promise(data.facts)

    def default_sampler(self, network: str = "model") -> None:
        return None
