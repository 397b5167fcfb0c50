"""The privacy statement beside every model and every synthetic set, built from ledger lines.

`statement_of` derives everything it says about privacy from ledger lines: the events that were
charged, priced by the accountant of record at one delta. A synthetic set inherits its model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting import (
    ACCOUNTANT,
    Adjacency,
    delta_of,
    epsilon_of,
    round_up,
    second_opinion,
)
from dpgen.privacy.certificate import SCHEMA
from dpgen.privacy.chain import digest
from dpgen.privacy.charges import charged_event, releases_of
from dpgen.privacy.events import event_to_json, leaves

CAVEATS = (
    "proof in real arithmetic: floating-point side channels are not covered",
    "timing and memory side channels are not covered",
)
PHRASES = {
    "add_remove": "adding or removing one record",
    "replace_one": "replacing one record",
}


def sentence(kind: str, epsilon: float, delta: float, adjacency: Adjacency) -> str:
    """The guarantee in one sentence; never an epsilon without delta, relation and unit."""
    # `:g` rounds to nearest, and a smaller delta would be a stronger claim.
    stated = round_up(delta, 6)
    return (
        f"This {kind.replace('_', ' ')} satisfies ({epsilon:g}, {stated:g})-differential "
        f"privacy in the central model, "
        f"with respect to {PHRASES[adjacency]} (image and label) of the training data."
    )


def declaration(facts: Mapping[str, Any]) -> str:
    """What was known beforehand and is covered by no epsilon, and who says so."""
    origin = {
        "declared": "declared public, as read from the data's own headers, by whoever ran the "
        "training",
        "stated": "stated in a facts file by whoever ran the training",
    }[facts["origin"]]
    return (
        f"The shape of the images, the number of records ({facts['n_records']}) and the list of "
        f"classes ({len(facts['class_names'])}) were {origin}; they are published as they are and "
        "the guarantee does not cover them."
    )


def accounting_of(event: DpEvent, delta: float, adjacency: Adjacency) -> dict[str, Any]:
    """What `verify` can compute again: guarantee and how it was counted."""
    epsilon = round_up(epsilon_of(event, delta, adjacency))
    other = second_opinion(event, delta, adjacency)
    sampled = any(leaf.rate < 1 for leaf in leaves(event))
    mu = None if sampled else math.sqrt(sum(x.steps / x.noise_multiplier**2 for x in leaves(event)))
    if mu is not None and adjacency == "replace_one":
        mu *= 2
    return {
        "guarantee": {
            "model": "central",
            "epsilon": epsilon,
            "delta": delta,
            "adjacency": adjacency,
            "unit": "record",
            "mu_gdp": None if mu is None else round_up(mu, 5),
            "profile": [
                [e, round_up(delta_of(event, e, adjacency))] for e in (epsilon / 4, epsilon / 2)
            ],
            "covers": "all iterates of the private stages and all later sampling",
        },
        "accounting": {
            "accountant": ACCOUNTANT,
            "version": version("dp-accounting"),
            "rounding": "up",
            "events": event_to_json(event),
            "cross_check": {
                "accountant": "opacus Renyi",
                "version": version("opacus"),
                "epsilon": None if other is None else round_up(other),
            },
        },
    }


def statement_of(
    kind: str,
    *,
    lines: Sequence[Mapping[str, Any]],
    delta: float,
    mechanism: Mapping[str, Any],
    files: Mapping[str, str],
    data_set: Mapping[str, Any],
) -> dict[str, Any]:
    """The privacy statement of a model, from the ledger lines of the run that made it.

    Args:
        kind: "model".
        lines: the run's own ledger lines, its open line first.
        delta: at which epsilon is stated.
        mechanism: id, theorem, settings of each stage: what ran.
        files: SHA-256 of every file that the statement covers.
        data_set: what the data set's whole ledger says.
    """
    opened = lines[0]
    adjacency: Adjacency = opened["adjacency"]
    computed = accounting_of(charged_event(lines), delta, adjacency)
    statement = {
        "schema": SCHEMA,
        "artifact": {"kind": kind, "files": dict(files), "created": _now(), "parents": []},
        "statement": sentence(kind, computed["guarantee"]["epsilon"], delta, adjacency),
        "verified": "proven",
        "mechanism": {**mechanism, "version": version("dpgen")},
        **computed,
        "releases": releases_of(lines),
        "facts": opened["facts"],
        "declared": declaration(opened["facts"]),
        "implementation": {
            "sampling": "Poisson, secret coins",
            "per_record": "vmap(grad), clipped over all parameters together, float64 sums",
            "nonfinite": "contributes zero",
            "noise": "float64 Box-Muller from a SHAKE-256 stream, key drawn by the operating "
            "system per stage",
            "caveats": list(CAVEATS),
        },
        "data_access": [
            {
                "what": "shape, class names, number of records",
                "how": opened["facts"]["origin"],
                "event": None,
            }
        ],
        "data_set": dict(data_set),
    }
    return {**statement, "sha256": digest(statement)}


def inherited(
    parent: Mapping[str, Any], *, files: Mapping[str, Any], synthetic: Mapping[str, Any]
) -> dict[str, Any]:
    """The statement of a synthetic set: its model's numbers, whatever the number of samples
    (post-processing).
    """
    guarantee = parent["guarantee"]
    own = ("artifact", "statement", "sha256")
    statement = {
        **{key: value for key, value in parent.items() if key not in own},
        "artifact": {
            "kind": "synthetic_dataset",
            "files": dict(files),
            "created": _now(),
            "parents": [digest(parent)],
        },
        "statement": sentence(
            "synthetic_dataset", guarantee["epsilon"], guarantee["delta"], guarantee["adjacency"]
        ),
        "synthetic_dataset": dict(synthetic),
    }
    return {**statement, "sha256": digest(statement)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
