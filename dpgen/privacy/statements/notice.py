"""The document of a mode whose privacy claim is not verified, in place of a certificate:
``notice.json``.

A notice states two epsilons, the one that the paper's accounting claims and the worst case of what
ran, and why they differ. It shares no field with a certificate, `verify` fails on it by design, and
nothing can turn it into one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import NormalDist
from typing import Any

from dpgen.privacy.accounting.accountant import CLOSED_FORM, round_up
from dpgen.privacy.accounting.gaussian import gaussian_epsilon
from dpgen.privacy.statements.certificate import (
    LARGEST_STATEMENT,
    NOTICE,
    CertificateError,
    finite_or_word,
    intact,
    now,
)
from dpgen.privacy.statements.transcription import words_of
from dpgen.storage.canonical import digest
from dpgen.storage.files import read_json

SCHEMA = "dpgen-notice/1"
VERIFIED = "claim_not_verified"


class UnverifiedClaim(ValueError):
    """A mode without a verified privacy claim was requested and not allowed."""


def not_allowed(mechanism: str) -> UnverifiedClaim:
    """Makes the error for a mode without a guarantee that was not explicitly allowed."""
    return UnverifiedClaim(
        f"{mechanism} has no privacy guarantee, its published claim is not verified: "
        "--allow-unverified (allow_unverified=True) runs it anyway, for study, and writes a "
        "notice instead of a certificate"
    )


def unpriced(mechanism: str) -> UnverifiedClaim:
    """Makes the error that a mode without a guarantee raises in place of a plan: an empty plan
    would have a price of zero.
    """
    return UnverifiedClaim(f"{mechanism} has no plan: nothing that it does is priced")


@dataclass(frozen=True)
class WorstCase:
    """The true price of a mechanism: what its own queries reveal about one record.

    Args:
        mu: sensitivity over noise of the Gaussian that dominates it; infinite without noise.
        epsilon: epsilon at ``delta`` between any two data sets; infinite where nothing bounds it.
        delta: the delta of epsilon.
        accountant: the method that computed epsilon, in words.
    """

    mu: float
    epsilon: float
    delta: float
    accountant: str

    def to_dict(self) -> dict[str, Any]:
        return {name: finite_or_word(value) for name, value in asdict(self).items()}


def unbounded(delta: float) -> WorstCase:
    """Returns the worst case with an infinite epsilon: the released values depend on the records
    and have no noise.
    """
    return WorstCase(math.inf, math.inf, delta, "none is needed")


def gaussian_worst_case(mu: float, delta: float) -> WorstCase:
    """Computes the worst case of a Gaussian mechanism whose answer moves by at most ``mu`` times
    its noise between any two data sets, so that the neighbouring relation makes no difference.

    It has the exact Gaussian curve (theorem F2; Balle and Wang 2018, Theorem 8), rounded up.
    """
    if not (math.isfinite(mu) and mu > 0):
        raise ValueError(f"mu must be a number greater than 0, got {mu}")
    mu = round_up(mu, 5)
    return WorstCase(mu, round_up(gaussian_epsilon(mu, delta)), delta, CLOSED_FORM)


def responses_worst_case(n_labels: int, epsilon: float, delta: float) -> WorstCase:
    """Computes the worst case of labels that are changed one by one by a response with parameter
    ``epsilon``, in sets that no record chooses: all of them may be others on another data set.

    Their epsilons add up (theorem P3); a response of that parameter is mu-GDP with
    mu = 2 Phi^-1(e^epsilon / (e^epsilon + 1)) (Dong, Roth and Su 2022, Proposition 2.13), and
    squares of mu add up.
    """
    each = -2 * NormalDist().inv_cdf(1 / (1 + math.exp(epsilon))) if epsilon < 36 else math.inf
    mu = round_up(math.sqrt(n_labels) * each, 5) if math.isfinite(each) else math.inf
    return WorstCase(mu, round_up(n_labels * epsilon), delta, "the sum of all labels")


@dataclass(frozen=True)
class Claim:
    """The claim of a paper for a mode, and its true price.

    Args:
        mechanism: id of method and mode.
        claimed_epsilon: epsilon by the accounting of the paper, at the delta of ``worst_case``.
        claimed_by: that accounting, in words.
        worst_case: the true price.
        reason: why the published argument fails, in two sentences.
        reference: where this is proved.
        settings: every number that shapes what runs.
    """

    mechanism: str
    claimed_epsilon: float
    claimed_by: str
    worst_case: WorstCase
    reason: str
    reference: str
    settings: Mapping[str, Any]

    @property
    def plan(self) -> str:
        """Returns the identity of the run's only stage, as a ledger hashes one."""
        return digest({"mechanism": self.mechanism, "settings": dict(self.settings)})

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers and words of a notice, as JSON values."""
        return {
            "mechanism": {
                "id": self.mechanism,
                "version": version("dpgen"),
                "settings": dict(self.settings),
            },
            "reason": self.reason,
            "reference": self.reference,
            "worst_case": self.worst_case.to_dict(),
            "claimed": {
                "epsilon": self.claimed_epsilon,
                "delta": self.worst_case.delta,
                "by": f"the paper's accounting, not verified: {self.claimed_by}",
            },
        }


def sentences(noticed: Mapping[str, Any]) -> list[str]:
    """Puts a notice, or a claim's `to_dict`, into sentences, each number with the word that
    qualifies it.
    """
    mechanism, why = noticed["mechanism"]["id"], f"{noticed['reason']} ({noticed['reference']})"
    made = words_of(noticed)
    told = [] if made is None else [made]
    if "worst_case" not in noticed:  # of a classifier that came alone: no number is known of it
        return [f"{mechanism} has no guarantee", why, *told]
    worst, claimed = noticed["worst_case"], noticed["claimed"]
    return [
        f"{mechanism} has no guarantee: its privacy claim is not verified",
        f"worst case: epsilon = {_number(worst['epsilon'])} at delta = {worst['delta']:g}, "
        f"mu = {_number(worst['mu'])}",
        f"claimed: epsilon = {_number(claimed['epsilon'])} at delta = {claimed['delta']:g} "
        f"by {claimed['by']}",
        why,
        *told,
    ]


def notice_of(
    claim: Claim,
    *,
    files: Mapping[str, str],
    facts: Mapping[str, Any],
    data_set: Mapping[str, Any],
) -> dict[str, Any]:
    """Makes the notice of a model.

    Args:
        files: SHA-256 of every file that it covers.
        facts: public facts of the records.
        data_set: the account of the data set's ledger.
    """
    notice = {
        "schema": SCHEMA,
        "verified": VERIFIED,
        "notice": "no guarantee: nothing here bounds what these files give away about a record "
        "but the worst case below",
        "artifact": {"kind": "model", "files": dict(files), "created": now(), "parents": []},
        **claim.to_dict(),
        "facts": dict(facts),
        # Without the limit: an unverified run has no limit on what it reveals.
        "data_set": {k: finite_or_word(v) for k, v in data_set.items() if k != "limit"},
    }
    return {**notice, "sha256": digest(notice)}


def inherited_notice(
    parent: Mapping[str, Any], *, files: Mapping[str, Any], synthetic: Mapping[str, Any]
) -> dict[str, Any]:
    """Makes the notice of a synthetic set: its model's notice, word for word."""
    notice = {
        **{key: value for key, value in parent.items() if key not in ("artifact", "sha256")},
        "artifact": {
            "kind": "synthetic_dataset",
            "files": dict(files),
            "created": now(),
            "parents": [digest(parent)],
        },
        "synthetic_dataset": dict(synthetic),
    }
    return {**notice, "sha256": digest(notice)}


def read_notice(folder: Path) -> dict[str, Any]:
    """Reads the ``notice.json`` of a run or a synthetic set, and checks its own hash. Raises
    CertificateError when there is none, or when a certificate lies beside it.
    """
    path = folder / NOTICE
    if (folder / "privacy.json").exists():
        raise CertificateError(f"{folder} holds a notice and a certificate: one of them is false")
    try:
        notice = read_json(path, LARGEST_STATEMENT)
        if notice["schema"] != SCHEMA or notice["verified"] != VERIFIED or not intact(notice):
            raise ValueError("it was changed since it was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CertificateError(f"{path} is no notice ({error})") from None
    return dict(notice)


def _number(value: Any) -> str:  # noqa: ANN401
    return value if isinstance(value, str) else f"{value:g}"
