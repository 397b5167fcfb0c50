"""The second accountant is Opacus', whatever of Opacus is loaded."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from opacus.accountants.analysis import rdp

from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.accounting.opinion import ORDERS, _of_group, second_opinion
from tests.relations import ADD_REMOVE

ROOT = Path(__file__).parents[3]
PRICED = """
import sys
import dpgen.commands.verify, dpgen.commands.listings, dpgen.methods.planned
from dpgen.data.identity import home
from dpgen.privacy.verification import parentage, signature, verify as verification
from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.statement import accounting_of

event = compose([GaussianLeaf(1.0, 6.0, 1).event, GaussianLeaf(0.1, 4.0, 30).event])
told = accounting_of(event, 1e-5, Relation("add_remove", 1))["accounting"]["cross_check"]
print(home(), "torch" in sys.modules, "opacus" in sys.modules, told["epsilon"])
"""


def test_a_statement_is_checked_by_both_accountants_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRICED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    event = compose([GaussianLeaf(1.0, 6.0, 1).event, GaussianLeaf(0.1, 4.0, 30).event])
    told = second_opinion(event, 1e-5, ADD_REMOVE)
    assert told is not None
    _, torch, opacus, epsilon = done.stdout.split()
    assert (torch, opacus) == ("False", "False")
    assert told <= float(epsilon) <= 1.01 * told


def test_the_second_accountant_is_the_library_itself() -> None:
    renyi = sum(
        rdp.compute_rdp(q=q, noise_multiplier=sigma, steps=steps, orders=ORDERS)
        for q, sigma, steps in ((1.0, 6.0, 2), (0.05, 1.3, 70))
    )
    event = compose([GaussianLeaf(1.0, 6.0, 2).event, GaussianLeaf(0.05, 1.3, 70).event])
    exact, _ = rdp.get_privacy_spent(orders=ORDERS, rdp=renyi, delta=1e-6)
    assert second_opinion(event, 1e-6, ADD_REMOVE) == float(exact)


@pytest.mark.parametrize("single", [math.inf, math.nan, 0.0, -1.0])
def test_a_bound_of_one_record_that_is_none_bounds_no_group(single: float) -> None:
    assert _of_group(lambda delta: single, 3, 1e-5) == math.inf


def test_the_bound_of_a_group_is_the_classical_lemma() -> None:
    """Of a mechanism that is (0.5, 1e-9)-indistinguishable and nothing better: m x, and only where
    delta is above d (1 + e**x + e**(2 x)).
    """
    def single(delta: float) -> float:
        return 0.5 if delta >= 1e-9 else math.inf

    needed = 1e-9 * (1 + math.exp(0.5) + math.exp(1.0))
    assert _of_group(single, 3, 1.5 * needed) == pytest.approx(1.5)
    assert _of_group(single, 3, 0.99 * needed) == math.inf
