"""dpgen: learns from private images once under differential privacy, then samples without limit.

>>> from dpgen import DPSAD, open_images
>>> generator = DPSAD(epsilon=10)
>>> generator.fit(open_images("xrays/"))  # doctest: +SKIP
>>> images = generator.sample(10_000)  # doctest: +SKIP

The settings of a method are dataclasses, as `DPSADSettings` of `TeacherSettings`, `Distillation`
and `SamplerSettings`; ``dpgen settings dp-sad`` lists them all with their defaults.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpgen.configurations.dfkd import DFKDSettings
    from dpgen.configurations.dgd import DGDSettings
    from dpgen.configurations.dp_sad import DPSADSettings
    from dpgen.configurations.dpdfd import DPDFDSettings
    from dpgen.configurations.dpdm import DPDMSettings
    from dpgen.configurations.dpsd import DPSDSettings
    from dpgen.configurations.m3d import CondensedSettings, M3DSettings
    from dpgen.configurations.pge import PGESettings
    from dpgen.configurations.teachers import TeachersSettings
    from dpgen.configurations.transcription import TranscriptionSettings
    from dpgen.data.opening import open_images
    from dpgen.data.private import PrivateDataset
    from dpgen.data.samples import Samples
    from dpgen.generator.interface import PrivateGenerator
    from dpgen.generator.sampler_settings import SamplerSettings
    from dpgen.images.facts import PublicFacts
    from dpgen.images.fair_classes import FairClasses
    from dpgen.images.images import Images
    from dpgen.methods.dfkd import DFKD
    from dpgen.methods.dgd import DGD
    from dpgen.methods.dp_sad import DPSAD
    from dpgen.methods.dpdfd import DPDFD
    from dpgen.methods.dpdm import DPDM
    from dpgen.methods.dpsd import DPSD
    from dpgen.methods.loading import load
    from dpgen.methods.m3d import M3D
    from dpgen.methods.pge import PGE
    from dpgen.privacy.accounting.accountant import Budget
    from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded
    from dpgen.privacy.mechanisms.silos import Silos
    from dpgen.privacy.statements.notice import UnverifiedClaim
    from dpgen.runs.classifier_file import save_classifier
    from dpgen.runs.context import Hardware
    from dpgen.stages.classifier_settings import ClassifierSettings
    from dpgen.stages.sketch_settings import SketchSettings
    from dpgen.stages.spectrum_settings import SpectrumSettings
    from dpgen.stages.stacked_plan import EmbeddingSettings
    from dpgen.stages.teacher_settings import TeacherSettings
    from dpgen.stages.votes_settings import VoteSettings
    from dpgen.training.data_free_settings import (
        LabelSettings,
        PupilSettings,
        RefinementSettings,
        StudentSettings,
    )
    from dpgen.training.distillation_settings import Distillation
    from dpgen.training.imitation_settings import ImitationSettings
    from dpgen.training.manifold_settings import ManifoldSettings
    from dpgen.training.public_settings import PublicSettings
    from dpgen.training.refit_settings import RefitSettings
    from dpgen.transcription.teaching import transcribe_teachers
    from dpgen.transcription.transcribing import transcribe

# Names are imported when first used: `import dpgen` costs milliseconds, torch and diffusers cost
# seconds.
_HOMES = {
    "DFKD": "dpgen.methods.dfkd",
    "DFKDSettings": "dpgen.configurations.dfkd",
    "DGD": "dpgen.methods.dgd",
    "DGDSettings": "dpgen.configurations.dgd",
    "DPSAD": "dpgen.methods.dp_sad",
    "DPSADSettings": "dpgen.configurations.dp_sad",
    "DPDFD": "dpgen.methods.dpdfd",
    "DPDFDSettings": "dpgen.configurations.dpdfd",
    "DPDM": "dpgen.methods.dpdm",
    "DPDMSettings": "dpgen.configurations.dpdm",
    "DPSD": "dpgen.methods.dpsd",
    "DPSDSettings": "dpgen.configurations.dpsd",
    "M3D": "dpgen.methods.m3d",
    "M3DSettings": "dpgen.configurations.m3d",
    "PGE": "dpgen.methods.pge",
    "PGESettings": "dpgen.configurations.pge",
    "Budget": "dpgen.privacy.accounting.accountant",
    "BudgetExceeded": "dpgen.privacy.ledger.privacy_ledger",
    "ClassifierSettings": "dpgen.stages.classifier_settings",
    "CondensedSettings": "dpgen.configurations.m3d",
    "Distillation": "dpgen.training.distillation_settings",
    "EmbeddingSettings": "dpgen.stages.stacked_plan",
    "FairClasses": "dpgen.images.fair_classes",
    "Hardware": "dpgen.runs.context",
    "Images": "dpgen.images.images",
    "ImitationSettings": "dpgen.training.imitation_settings",
    "LabelSettings": "dpgen.training.data_free_settings",
    "ManifoldSettings": "dpgen.training.manifold_settings",
    "PrivateDataset": "dpgen.data.private",
    "PrivateGenerator": "dpgen.generator.interface",
    "PublicFacts": "dpgen.images.facts",
    "PublicSettings": "dpgen.training.public_settings",
    "PupilSettings": "dpgen.training.data_free_settings",
    "RefinementSettings": "dpgen.training.data_free_settings",
    "RefitSettings": "dpgen.training.refit_settings",
    "Samples": "dpgen.data.samples",
    "SamplerSettings": "dpgen.generator.sampler_settings",
    "Silos": "dpgen.privacy.mechanisms.silos",
    "SketchSettings": "dpgen.stages.sketch_settings",
    "SpectrumSettings": "dpgen.stages.spectrum_settings",
    "StudentSettings": "dpgen.training.data_free_settings",
    "TeacherSettings": "dpgen.stages.teacher_settings",
    "TeachersSettings": "dpgen.configurations.teachers",
    "VoteSettings": "dpgen.stages.votes_settings",
    "UnverifiedClaim": "dpgen.privacy.statements.notice",
    "TranscriptionSettings": "dpgen.configurations.transcription",
    "load": "dpgen.methods.loading",
    "open_images": "dpgen.data.opening",
    "save_classifier": "dpgen.runs.classifier_file",
    "transcribe": "dpgen.transcription.transcribing",
    "transcribe_teachers": "dpgen.transcription.teaching",
}

__all__ = [
    "DFKD",
    "DGD",
    "DPDFD",
    "DPDM",
    "DPSAD",
    "DPSD",
    "M3D",
    "PGE",
    "Budget",
    "BudgetExceeded",
    "ClassifierSettings",
    "CondensedSettings",
    "DFKDSettings",
    "DGDSettings",
    "DPDFDSettings",
    "DPDMSettings",
    "DPSADSettings",
    "DPSDSettings",
    "Distillation",
    "EmbeddingSettings",
    "FairClasses",
    "Hardware",
    "Images",
    "ImitationSettings",
    "LabelSettings",
    "M3DSettings",
    "ManifoldSettings",
    "PGESettings",
    "PrivateDataset",
    "PrivateGenerator",
    "PublicFacts",
    "PublicSettings",
    "PupilSettings",
    "RefinementSettings",
    "RefitSettings",
    "SamplerSettings",
    "Samples",
    "Silos",
    "SketchSettings",
    "SpectrumSettings",
    "StudentSettings",
    "TeacherSettings",
    "TeachersSettings",
    "TranscriptionSettings",
    "UnverifiedClaim",
    "VoteSettings",
    "load",
    "open_images",
    "save_classifier",
    "transcribe",
    "transcribe_teachers",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'dpgen' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
