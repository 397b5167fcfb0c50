"""Repeats statements of schema dpgen-privacy/2 word for word, so that they can still be checked.

They hold the numbers that are computed today, or slightly larger ones: the accountant of schema 2
had no closed form and priced some groups at infinity. Their theorem is a sentence of the method's,
their implementation one text for all methods, and no ledger line names the released files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.privacy.accounting.accountant import ACCOUNTANT, round_up
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.statement import Basis, accounting_of
from dpgen.privacy.statements.tuning import INSTALLATION

SETTLED = 1.002  # ratio by which two prices of one event may differ: the accountants' tolerance
THEOREMS = {
    "dp-sad/sealed": "A3 (post-processing of a DP teacher) on B1 (Poisson-subsampled Gaussian) "
    "with un-sampled Gaussian releases",
    "dpdm/dpsgd": "B1 (Poisson-subsampled Gaussian, composed) with an un-sampled Gaussian release",
    "pge/dpsgd": "B1 (Poisson-subsampled Gaussian, composed) with an un-sampled Gaussian release",
    "pge/sketch": "B2 (un-sampled Gaussian releases, adaptively composed) and post-processing",
}
MIXED = {
    "composition": "adaptive composition (Zhu, Dong and Wang 2022)",
    "maximum": "parallel composition (McSherry 2009)",
}
IMPLEMENTATION = {
    "sampling": "Poisson, secret coins",
    "per_record": "vmap(grad), clipped over all parameters together, float64 sums",
    "nonfinite": "contributes zero",
    "noise": "float64 Box-Muller from a SHAKE-256 stream, key drawn by the operating system per "
    "stage",
    "caveats": [
        "proof in real arithmetic: floating-point side channels are not covered",
        "timing and memory side channels are not covered",
    ],
}
ORIGINS = {
    "declared": "declared public, as read from the data's own headers, by whoever ran the training",
    "stated": "stated in a facts file by whoever ran the training",
}


def is_price(stated: object, exact: float) -> bool:
    """Returns whether either accountant may have stated ``stated`` for the price ``exact``: rounded
    up, and larger by no more than the tolerance of the accountant of schema 2.
    """
    return type(stated) is float and round_up(exact) <= stated <= round_up(exact * SETTLED)


def derived(kind: str, basis: Basis, guarantee: Mapping[str, Any]) -> dict[str, Any]:
    """Derives a statement as `dpgen.privacy.statements.statement.derived` does, without theorems.

    Args:
        guarantee: the stated guarantee; its larger numbers are kept where the accountant of schema
            2 may have computed them.
    """
    computed = accounting_of(basis.event, basis.delta, basis.relation)
    computed["accounting"]["accountant"] = ACCOUNTANT  # for un-sampled runs, too
    priced, stated = computed["guarantee"], guarantee["epsilon"]
    if is_price(stated, priced["epsilon"]):
        priced["epsilon"] = stated
    facts, data_set = basis.facts, basis.data_set
    n, total = data_set["runs"], data_set["total_epsilon"]
    counted = (
        f"This run and all others on this data set, {n} in all, are charged to its ledger"
        if data_set["ledger"] == INSTALLATION
        else "Runs on this data set are not counted together: it was taken for public"
    )
    return {
        "statement": _sentence(
            kind, computed["guarantee"]["epsilon"], basis.delta, basis.relation
        ),
        "verified": "proven",
        **computed,
        "declared": (
            f"The shape of the images, the number of records ({facts['n_records']}) and the list "
            f"of classes ({len(facts['class_names'])}) were {ORIGINS[facts['origin']]}; they are "
            "published as they are and the guarantee does not cover them."
        ),
        "implementation": IMPLEMENTATION,
        "data_access": [
            {
                "what": "shape, class names, number of records",
                "how": facts["origin"],
                "event": None,
            }
        ],
        "tuning": {
            "runs_charged": n,
            "total_epsilon": total,
            "statement": f"{counted}; epsilon above is of this run alone. Settings that were "
            "chosen by metrics of private records, as losses, accuracies or distances to them, "
            "are not covered.",
        },
    }


def group_as_stated(again: dict[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Sets a guarantee's group prices to infinity where the stated ones are: the weaker claim
    holds, and large groups under little noise had no price.
    """
    group = {
        m: "infinity" if stated["group"].get(m) == "infinity" else epsilon
        for m, epsilon in again["group"].items()
    }
    return {**again, "group": group}


def mixture_mechanism(rule: str) -> dict[str, str]:
    """Returns the mechanism entry of a mixture by this rule, with the proof that it names."""
    return {"id": "mixture", "theorem": MIXED[rule]}


def knows_theorem(mechanism: Mapping[str, Any]) -> bool:
    """Returns whether a statement names its method's theorem. For unknown methods any theorem
    counts.
    """
    known = THEOREMS.get(mechanism["id"])
    return known is None or mechanism["theorem"] == known


def _sentence(kind: str, epsilon: float, delta: float, relation: Relation) -> str:
    return (
        f"This {kind.replace('_', ' ')} satisfies ({epsilon:g}, {round_up(delta, 6):g})-"
        f"differential privacy in the central model, with respect to {relation.phrase} (image and "
        "label) of the training data."
    )
