"""Every bug is caught by something, nothing is accused without one, and the table that is committed
says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpgen.auditing.audit import audit
from dpgen.data.private import PrivateDataset
from dpgen.methods.dp_sad import DPSAD
from dpgen.methods.loading import load
from dpgen.methods.pge import PGE
from dpgen.privacy.accounting import accountant as accounting
from dpgen.privacy.statements import earlier, statement
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from tests.mutations import (
    account_bugs,
    branch_bugs,
    classifier_bugs,
    clip_bugs,
    coin_bugs,
    condensed_bugs,
    data_free_bugs,
    ensemble_bugs,
    fair_bugs,
    key_bugs,
    lineage_bugs,
    noise_bugs,
    process_bugs,
    public_bugs,
    published_bugs,
    records_bugs,
    repeat_bugs,
    restored_bugs,
    secret_bugs,
    silo_bugs,
    spectrum_bugs,
    stage_bugs,
    teacher_bugs,
    transcription_bugs,
)
from tests.mutations.bug import Bug
from tests.mutations.detectors import DETECTORS, ROOMS
from tests.mutations.fit_detectors import FACTS, quick, watched_silently
from tests.mutations.table import seen_by, table

TABLE = Path(__file__).parents[2] / "assets" / "mutations.md"
BUGS = (
    *published_bugs.BUGS, *clip_bugs.BUGS, *branch_bugs.BUGS, *noise_bugs.BUGS, *repeat_bugs.BUGS,
    *coin_bugs.BUGS, *key_bugs.BUGS, *secret_bugs.BUGS, *lineage_bugs.BUGS, *stage_bugs.BUGS,
    *account_bugs.BUGS, *restored_bugs.BUGS, *records_bugs.BUGS, *spectrum_bugs.BUGS,
    *classifier_bugs.BUGS, *process_bugs.BUGS, *data_free_bugs.BUGS, *condensed_bugs.BUGS,
    *ensemble_bugs.BUGS, *teacher_bugs.BUGS, *silo_bugs.BUGS, *transcription_bugs.BUGS,
    *fair_bugs.BUGS, *public_bugs.BUGS,
)  # fmt: skip
PRICING = ("dpgen.privacy.accounting.accountant.", "dpgen.privacy.statements.statement.")
_ROWS: dict[str, dict[str, str]] = {}
_PRICES: dict[str, Any] = {}


@contextmanager
def prices(known: dict[str, Any]) -> Iterator[None]:
    """Statements whose prices are computed once: the real price, not the real patience."""
    function = statement.accounting_of

    def remembered(*given: Any) -> Any:  # noqa: ANN401
        question = repr(given)
        if question not in known:
            known[question] = function(*given)
        return known[question]

    with pytest.MonkeyPatch.context() as patch:
        for module in (statement, earlier):
            patch.setattr(module, "accounting_of", remembered)
        yield


def forget_prices() -> None:
    for value in vars(accounting).values():
        getattr(value, "cache_clear", lambda: None)()


def look(bug: Bug, place: Path, names: Sequence[str]) -> dict[str, str]:
    """What the detectors of these names see, with the bug in its place."""
    row = {}
    for name in names:
        folder = place / name.replace(" ", "-")
        folder.mkdir()
        try:
            row[name] = DETECTORS[name](folder)
        except Exception as error:
            if bug.refusal is None or not isinstance(error, bug.refusal):
                raise
            row[name] = f"stops with {type(error).__name__}"
    return row


@pytest.mark.parametrize("name", DETECTORS)
def test_without_a_bug_nothing_is_accused(name: str, tmp_path: Path) -> None:
    with prices(_PRICES):
        assert DETECTORS[name](tmp_path) == ""


@contextmanager
def injected(bug: Bug) -> Iterator[None]:
    # What a bug in the accountant answers must be asked anew, and not be known afterwards.
    own = any(name.startswith(PRICING) for name in bug.changes)
    if own:
        forget_prices()
    try:
        with prices({} if own else _PRICES), pytest.MonkeyPatch.context() as patch:
            bug.inject(patch)
            yield
    finally:
        if own:
            forget_prices()


# Some bugs leave a training loop that is closed later, when its ledger is not the one it knew.
unraisable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@unraisable
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    """By the first of the detectors that caught it when the table was written."""
    first = seen_by(TABLE.read_text(), bug.name)[:1]
    with injected(bug):
        assert any(look(bug, tmp_path, first).values())


@pytest.mark.slow
@unraisable
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_is_shown_to_every_detector_of_its_room(bug: Bug, tmp_path: Path) -> None:
    with injected(bug):
        _ROWS[bug.name] = look(bug, tmp_path, ROOMS[bug.room])
    assert any(_ROWS[bug.name].values())


def test_bugs_have_names_of_their_own_and_change_something() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert all(bug.changes and bug.room in ROOMS for bug in BUGS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: published_bugs.dp_sad("real", DPSAD),
        lambda: published_bugs.dp_sad("noise", DPSAD),
        lambda: published_bugs.pge(PGE),
    ],
    ids=["dp-sad", "dp-sad on inputs of its own", "pge"],
)
def test_a_paper_mode_gets_no_certificate_and_is_not_verified(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with quick(tmp_path):
        with pytest.raises(UnverifiedClaim):
            make().fit(PrivateDataset(watched_silently(), facts=FACTS), out=run)
        assert not run.exists()
        make().fit(
            PrivateDataset(watched_silently(), facts=FACTS), out=run, seed=0,
            hardware=Hardware("cpu"), allow_unverified=True,
        )  # fmt: skip
    assert (run / "notice.json").exists() and not (run / "privacy.json").exists()
    with pytest.raises(CertificateError, match="carries a notice, not a certificate"):
        verify(run)
    with pytest.raises(UnverifiedClaim, match="carries a notice, not a certificate"):
        audit(load(run))
    with pytest.raises(UnverifiedClaim, match="carries a notice, not a certificate"):
        audit(load(run, allow_unverified=True))


@pytest.mark.slow
def test_the_committed_table_is_that_of_this_run(request: pytest.FixtureRequest) -> None:
    if len(_ROWS) < len(BUGS):
        pytest.skip(f"{len(_ROWS)} of {len(BUGS)} bugs were run")
    written = table(BUGS, _ROWS)
    if request.config.getoption("--write-table", default=False):
        TABLE.write_text(written)
    assert TABLE.read_text() == written
