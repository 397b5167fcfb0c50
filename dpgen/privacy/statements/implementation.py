"""What a statement says of how mechanisms are computed, and what their proofs do not cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.recorded import ENSEMBLE, FIXED, SGD, Settings, is_sampled
from dpgen.privacy.statements.silos import divided

CAVEATS = (
    "proof in real arithmetic: floating-point side channels are not covered",
    "coins and noise are pseudo-random under a secret key; the proof takes them for independent",
    "timing and memory side channels are not covered",
    "a backup of an unfinished run folder is a secret: keys lie in it next to noisy answers",
    "whether a run starts, and what an error before its charge shows of a record to whoever runs "
    "it, are not covered",
)

TEACHERS = (
    "that no record is behind two teachers, and that none of them was trained from what others of "
    "them, or a common private start, had learned, is declared and not checked",
    "a teacher that was trained anew on the same records is not recognised as the same one",
)


def implementation_of(
    stages: Mapping[str, Settings], relation: Relation, *, enforced: bool
) -> dict[str, Any]:
    """Describes how the mechanisms that ran are computed, and what their proofs do not cover."""
    caveats = list(CAVEATS)
    if relation.is_of_teachers:
        caveats += TEACHERS
    elif enforced:
        caveats.append("whose each record is, is as the unit ids say: two ids count as two people")
    elif (m := relation.max_records_per_unit) > 1:
        caveats.append(f"that no person has more than {m} records is declared and not checked")
    return {
        "stages": {label: _how(settings) for label, settings in stages.items()},
        "nonfinite": "contributes zero",
        "noise": "float64 Box-Muller from a SHAKE-256 stream, key drawn by the operating system "
        "per stage",
        "caveats": caveats,
    }


def _how(settings: Settings) -> dict[str, str]:
    """Describes which records a stage reads, and how each record's contribution is bounded."""
    if settings["mechanism"] == FIXED:
        sampling = f"none: every teacher, in one of {settings['n_teachers']} fixed slots"
        bounded = "answer of one teacher alone, one-hot or clipped; float64 sums"
        return {"sampling": sampling, "per_teacher": bounded}
    if settings["mechanism"] == ENSEMBLE:
        bounded = "answer of one shard alone, one-hot or clipped; float64 sums"
        return {"sampling": f"none: every record, {divided(settings)}", "per_record": bounded}
    sampling = "Poisson, secret coins" if is_sampled(settings) else "none: every record"
    clipped = (
        "gradient of one record alone, clipped over all parameters together"
        if settings["mechanism"] == SGD
        else "statistic of one record alone, clipped over all its tables together"
    )
    return {"sampling": sampling, "per_record": f"{clipped}; float64 sums"}
