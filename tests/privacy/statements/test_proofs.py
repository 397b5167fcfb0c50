"""The theorems: every name that is cited has a text, every text is cited, and what they claim is
true of numbers.
"""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble, Votes
from dpgen.privacy.statements.mixture import THEOREMS
from dpgen.privacy.statements.proofs import FOLDER, applying, theorems, with_lemmas
from dpgen.privacy.statements.recorded import leaf_of

ROOT = Path(__file__).parents[3]
NAME = re.compile(r"\b([A-Z][0-9](?:-[A-Z])?)\b")
ONE = r"[A-Z][0-9](?:-[A-Z])?"
CITED = re.compile(rf"\b[Tt]heorems?\s+({ONE}(?:(?:, | and ){ONE})*)|\(({ONE})\)")
SUM: dict[str, Any] = {"mechanism": "NoisySum", "noise_multiplier": 2.0, "bound": 1.0}
SGD: dict[str, Any] = {
    "mechanism": "NoisySGD", "rate": 0.1, "n_steps": 3, "noise_multiplier": 1.0, "n_records": 9,
    "clip_norm": 1.0,
}  # fmt: skip
VOTES: dict[str, Any] = NoisyEnsemble(Votes(10), 250, 1000, 16.0, 60_000).settings
SILOS = {"by": "silo", "ids": "folder", "names_sha256": "0", "max_records": 9}
HALF = 9.0
X = np.linspace(-HALF, HALF, 20_001)


def docstrings(path: Path) -> str:
    """All docstrings and string constants of a module: certificates are made of the latter."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and type(n.value) is str)


def cited_in_code() -> set[str]:
    found: set[str] = set()
    for folder in ("dpgen", "samplers"):
        for path in (ROOT / folder).rglob("*.py"):
            for match in CITED.finditer(" ".join(docstrings(path).split())):
                found |= set(NAME.findall(match[0]))
    return found


def derivable() -> set[str]:
    """What certificates and notices can name."""
    runs = [{"a": SUM}, {"a": SGD}, {"a": SUM, "b": SGD}, {"a": VOTES}]
    return {t.name for stages in runs for t in applying(stages)} | set(THEOREMS.values())


def test_every_theorem_that_is_cited_has_a_text() -> None:
    cited = cited_in_code() | derivable()
    assert {"A2", "A3", "B1", "B2", "F2", "F3", "F7", "P1", "P2", "P3"} <= cited
    assert cited <= theorems().keys()


def test_a_name_that_has_no_text_would_be_found() -> None:
    for words in ("theorem Z9.", "theorems A3 and Z9", "exact (Z9)"):
        match = CITED.search(words)
        assert match is not None and "Z9" in NAME.findall(match[0])


def test_no_text_is_cited_nowhere() -> None:
    """By code or certificates, or by a proof that is."""
    reached = {theorem.name for theorem in with_lemmas(cited_in_code() | derivable())}
    assert reached == theorems().keys()


@pytest.mark.parametrize("name", sorted(theorems()))
def test_a_text_has_a_statement_and_a_proof_and_names_what_it_uses(name: str) -> None:
    theorem = theorems()[name]
    assert theorem.text.startswith(f"# {name}. {theorem.title}\n")
    if name != "D1":
        assert "**Theorem" in theorem.text and "**Proof.**" in theorem.text
        assert "QED" in theorem.text
    body = theorem.text.split("\n", 4)[-1]
    cited = {one for one in NAME.findall(body) if one in theorems()} - {name}
    # A remark may point to another theorem; a proof may not lean on one that is not named.
    proof = body.partition("**Proof")[2].partition("QED")[0]
    assert {one for one in NAME.findall(proof) if one in theorems()} <= {*theorem.uses, name}
    assert {*theorem.uses} - {"D1"} <= cited
    assert all(len(line) <= 100 for line in theorem.text.split("\n"))


def test_proofs_do_not_go_in_circles() -> None:
    done: set[str] = set()
    while len(done) < len(theorems()):
        ready = {name for name, t in theorems().items() if name not in done and {*t.uses} <= done}
        assert ready, f"a circle among {sorted(theorems().keys() - done)}"
        done |= ready


def test_the_texts_are_shipped_with_the_package() -> None:
    import tomllib

    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = config["tool"]["setuptools"]["package-data"]["dpgen"]
    shipped = {path for pattern in patterns for path in (ROOT / "dpgen").glob(pattern)}
    assert {*FOLDER.iterdir()} <= shipped


@pytest.mark.parametrize(
    ("stages", "names"),
    [
        ({"a": SUM}, ["B2", "A3"]),
        ({"a": SUM, "b": SUM}, ["B2", "F3", "A3"]),
        ({"a": SGD}, ["B1", "F3", "A3"]),
        ({"a": SGD | {"n_steps": 1}}, ["B1", "A3"]),
        ({"a": SGD | {"rate": 1.0}}, ["B2", "F3", "A3"]),
        ({"a": SUM, "b": SGD}, ["B1", "B2", "F3", "A3"]),
        ({"a": VOTES | {"n_queries": 1}}, ["A2-V", "A3"]),
        ({"a": VOTES | {"shards": SILOS}}, ["A2-S", "F3", "A3"]),
        ({"a": VOTES, "b": VOTES | {"shards": SILOS}}, ["A2-V", "A2-S", "F3", "A3"]),
        ({"a": SUM, "b": SGD, "c": VOTES}, ["B1", "B2", "A2-V", "F3", "A3"]),
    ],
)
def test_the_theorems_of_a_run_are_those_of_the_mechanisms_that_ran(
    stages: dict[str, Any], names: list[str]
) -> None:
    assert [theorem.name for theorem in applying(stages)] == names


@pytest.mark.parametrize(
    "wrong",
    [
        {"mechanism": "Votes"}, {"noise_multiplier": 0}, {"noise_multiplier": math.nan},
        {"rate": 1.5}, {"rate": True}, {"n_steps": 0}, {"n_steps": 2.0}, {"clip_norm": -1.0},
        {"n_records": "9"},
    ],
)  # fmt: skip
def test_settings_that_are_of_no_mechanism_are_refused(wrong: dict[str, Any]) -> None:
    assert leaf_of(SGD).steps == 3
    with pytest.raises(ValueError):
        leaf_of(SGD | wrong)


def density(means: list[float], weights: list[float], sigma: float = 1.0) -> np.ndarray:
    bells = np.exp(-((X - np.array(means)[:, None]) ** 2) / (2 * sigma**2))
    return np.array(weights) @ bells / (sigma * math.sqrt(2 * math.pi))


def hockey_stick(p: np.ndarray, q: np.ndarray, a: float) -> float:
    return float(np.trapezoid(np.maximum(p - a * q, 0.0), X))


@pytest.mark.parametrize("a", [0.3, 0.9, 1.0, 1.5, 4.0])
def test_replaced_records_are_dominated_by_opposite_ones(a: float) -> None:
    """B1 (b), and with it F6: a record may have any two values in the unit ball."""
    q = 0.3
    pair = [density([0, 1], [1 - q, q]), density([0, -1], [1 - q, q])]
    worst = hockey_stick(*pair, a)
    assert worst == pytest.approx(hockey_stick(*pair[::-1], a), abs=1e-9)
    for u in np.linspace(-1, 1, 9):
        for v in np.linspace(-1, 1, 9):
            one, other = density([0, u], [1 - q, q]), density([0, v], [1 - q, q])
            assert hockey_stick(one, other, a) <= worst + 1e-9


@pytest.mark.parametrize("a", [0.3, 1.0, 1.5, 4.0])
def test_units_are_dominated_by_records_that_all_point_one_way(a: float) -> None:
    """B1 (a) with three records, in both orders."""
    q, m = 0.3, 3
    subsets = [[k for k in range(m) if number >> k & 1] for number in range(2**m)]
    weights = [q ** len(s) * (1 - q) ** (m - len(s)) for s in subsets]

    def with_unit(vectors: np.ndarray) -> np.ndarray:
        return density([float(sum(vectors[k] for k in s)) for s in subsets], weights)

    without, worst = density([0], [1.0]), with_unit(np.ones(m))
    binomial = [math.comb(m, k) * q**k * (1 - q) ** (m - k) for k in range(m + 1)]
    assert worst == pytest.approx(density([0, 1, 2, 3], binomial))
    rng = np.random.default_rng(0)
    for vectors in [rng.uniform(-1, 1, m) for _ in range(40)]:
        p = with_unit(vectors)
        assert hockey_stick(p, without, a) <= hockey_stick(worst, without, a) + 1e-9
        assert hockey_stick(without, p, a) <= hockey_stick(without, worst, a) + 1e-9


def test_the_divergence_is_exchanged_as_the_definitions_say() -> None:
    """D1, equation 1."""
    p, q = density([0, 1], [0.7, 0.3]), density([-0.5], [1.0], sigma=1.2)
    for a in (0.2, 1.0, 3.0):
        exchanged = 1 - a + a * hockey_stick(q, p, 1 / a)
        assert hockey_stick(p, q, a) == pytest.approx(exchanged, abs=1e-6)
