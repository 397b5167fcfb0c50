"""The generator of a finished run folder, of whatever method."""

from __future__ import annotations

from pathlib import Path

from dpgen.generator.interface import PrivateGenerator
from dpgen.methods import find
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.certificate import NOTICE, CertificateError
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.runs.released import (
    checked_notice,
    checked_statement,
)
from dpgen.settings import from_dict, read_config


def load(path: str | Path, *, allow_unverified: bool = False) -> PrivateGenerator:
    """The generator of a finished run folder, every file of which is as its statement says.

    Args:
        allow_unverified: loads a run that carries a notice instead of a certificate, too.

    Raises:
        UnverifiedClaim: the run has no guarantee, and ``allow_unverified`` is False.
    """
    folder = Path(path)
    noticed = (folder / NOTICE).exists()
    if noticed and not allow_unverified:
        raise UnverifiedClaim(
            f"{folder} carries a notice, not a certificate: its privacy claim is not verified; "
            "--allow-unverified (allow_unverified=True) uses it all the same"
        )
    statement = checked_notice(folder) if noticed else checked_statement(folder)
    config = read_config(folder)
    try:
        method, budget = find(config["method"]), from_dict(Budget, config["budget"], "budget.")
        settings = from_dict(method.Settings, config["settings"])
        generator = method(budget=budget, settings=settings)
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"{folder / 'config.json'} is not what a run writes: {error!r:.200}"
        ) from None
    if generator.certified == noticed:
        raise CertificateError(f"{folder} does not hold what mode {settings.mode!r} releases")
    return generator._restore(folder, statement)  # type: ignore[no-any-return]
