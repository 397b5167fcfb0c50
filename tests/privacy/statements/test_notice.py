from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from dpgen.privacy.accounting.accountant import epsilon_of, gaussian_delta
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.statements.certificate import CertificateError, read_statement
from dpgen.privacy.statements.notice import (
    Claim,
    WorstCase,
    gaussian_worst_case,
    inherited_notice,
    notice_of,
    read_notice,
    sentences,
    unbounded,
)
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest
from tests.relations import ADD_REMOVE

DELTA = 1e-5


def claim(worst: WorstCase | None = None) -> Claim:
    return Claim(
        mechanism="x/paper",
        claimed_epsilon=1.0,
        claimed_by="a count of the sampled",
        worst_case=worst or unbounded(DELTA),
        reason="One thing fails. So does another.",
        reference="section 0",
        settings={"n_steps": 3},
    )


def notice(worst: WorstCase | None = None) -> dict[str, Any]:
    account = {"name": "n", "runs": 1, "total_epsilon": math.inf, "limit": {"epsilon": 1.0}}
    return notice_of(claim(worst), files={}, facts={"n_records": 20}, data_set=account)


def write(folder: Path, content: dict[str, Any], name: str = "notice.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("mu", [0.268, 2.0])
def test_the_worst_case_is_the_accountants_price_of_one_gaussian(mu: float) -> None:
    worst = gaussian_worst_case(mu, DELTA)
    exact = epsilon_of(GaussianLeaf(1.0, 1 / mu, 1).event, DELTA, ADD_REMOVE)
    assert exact <= worst.epsilon <= exact * 1.01
    assert gaussian_delta(worst.epsilon, mu) <= DELTA


def test_many_steps_are_worth_the_root_of_their_number() -> None:
    """2 C sqrt(B) a step, T steps, noise s: mu = 2 C sqrt(B T) / s, by composition too."""
    c, b, t, s = 0.1, 4, 9, 2.4
    composed = epsilon_of(GaussianLeaf(1.0, s / (2 * c * b**0.5), t).event, DELTA, ADD_REMOVE)
    worst = gaussian_worst_case(2 * c * (b * t) ** 0.5 / s, DELTA)
    assert worst.epsilon == pytest.approx(composed, rel=0.01)


def test_beyond_the_accountant_the_exact_curve_goes_on_where_it_stopped() -> None:
    """No bound is understated, and none is infinite that is not."""
    epsilons = [gaussian_worst_case(mu, DELTA).epsilon for mu in (20.5, 100.0, 1.7e4)]
    for mu, epsilon in zip((20.5, 100.0, 1.7e4), epsilons, strict=True):
        assert gaussian_delta(epsilon, mu) <= DELTA
        assert gaussian_delta(epsilon * 0.98, mu) > DELTA
    # The design's table: mu of 1.7e4 is an epsilon of 1.4e8.
    assert 1.4e8 < epsilons[-1] < 1.5e8


@pytest.mark.parametrize("mu", [0.0, -1.0, math.inf, math.nan])
def test_a_gaussian_without_noise_or_sensitivity_is_none(mu: float) -> None:
    with pytest.raises(ValueError, match="mu must be a number greater than 0"):
        gaussian_worst_case(mu, DELTA)


def test_no_field_of_a_notice_is_one_of_a_certificate() -> None:
    told = notice()
    for field in ("statement", "guarantee", "accounting", "releases", "declared", "epsilon"):
        assert field not in told
    assert told["schema"] == "dpgen-notice/1" and told["verified"] == "claim_not_verified"
    assert "limit" not in told["data_set"]
    text = json.dumps(told)
    for word in ("satisfies", "proven", "theorem", "differential privacy"):
        assert word not in text
    assert json.loads(text, parse_constant=pytest.fail) == told


def test_both_numbers_stand_in_a_notice_each_with_the_word_that_qualifies_it() -> None:
    told = notice()
    assert told["worst_case"] == {
        "mu": "infinity", "epsilon": "infinity", "delta": DELTA, "accountant": "none is needed"
    }  # fmt: skip
    assert told["claimed"]["epsilon"] == 1.0
    assert told["claimed"]["by"].startswith("the paper's accounting, not verified")
    assert told["data_set"]["total_epsilon"] == "infinity"
    said = sentences(told)
    assert "has no guarantee" in said[0] and "x/paper" in said[0]
    assert said[1] == "worst case: epsilon = infinity at delta = 1e-05, mu = infinity"
    assert "not verified" in said[2] and "epsilon = 1 " in said[2]
    assert "section 0" in said[3]
    finite = sentences(notice(gaussian_worst_case(2.0, DELTA)))
    assert finite[1] == "worst case: epsilon = 10 at delta = 1e-05, mu = 2"


def test_a_notice_is_read_back_and_never_as_a_certificate(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", notice())
    assert read_notice(folder) == notice() | {"artifact": read_notice(folder)["artifact"]} | {
        "sha256": read_notice(folder)["sha256"]
    }
    for reader in (read_statement, verify):
        with pytest.raises(CertificateError, match="a notice, not a certificate"):
            reader(folder)
    (folder / "notice.json").rename(folder / "privacy.json")
    for reader in (read_statement, verify):
        with pytest.raises(CertificateError, match="has schema 'dpgen-notice/1'"):
            reader(folder)


def test_a_notice_that_was_changed_is_refused(tmp_path: Path) -> None:
    for path, value in (
        (("worst_case", "epsilon"), 1.0),
        (("claimed", "epsilon"), 0.1),
        (("verified",), "proven"),
        (("schema",), "dpgen-privacy/1"),
    ):
        edited = copy.deepcopy(notice())
        at: Any = edited
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        with pytest.raises(CertificateError, match="is no notice"):
            read_notice(write(tmp_path / "run", edited))
    # Nor one that was sealed again, once it calls itself something else.
    for name, value in (("verified", "proven"), ("schema", "dpgen-privacy/1")):
        body = {**notice(), name: value}
        del body["sha256"]
        with pytest.raises(CertificateError, match="is no notice"):
            read_notice(write(tmp_path / "run", {**body, "sha256": digest(body)}))
    for content in ("[]", "{", "{}"):
        (tmp_path / "run" / "notice.json").write_text(content)
        with pytest.raises(CertificateError, match="is no notice"):
            read_notice(tmp_path / "run")
    with pytest.raises(CertificateError, match="is no notice"):
        read_notice(tmp_path / "nowhere")


def test_a_notice_beside_a_certificate_is_refused(tmp_path: Path) -> None:
    folder = write(write(tmp_path / "run", notice()), {}, "privacy.json")
    with pytest.raises(CertificateError, match="one of them is false"):
        read_notice(folder)


def test_a_synthetic_set_has_its_models_notice_and_another_seal(tmp_path: Path) -> None:
    parent = notice()
    told = inherited_notice(parent, files={"count": 1}, synthetic={"samples": 3})
    for name in ("verified", "mechanism", "reason", "worst_case", "claimed", "data_set"):
        assert told[name] == parent[name]
    assert told["artifact"]["kind"] == "synthetic_dataset"
    assert told["synthetic_dataset"] == {"samples": 3}
    assert read_notice(write(tmp_path / "set", told)) == told


def test_claims_that_run_differently_have_different_plans() -> None:
    one = claim()
    assert one.plan == claim(gaussian_worst_case(1.0, DELTA)).plan
    for change in ({"settings": {"n_steps": 4}}, {"mechanism": "y/paper"}):
        assert Claim(**{**one.__dict__, **change}).plan != one.plan
