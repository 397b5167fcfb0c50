"""Loads the generator of a finished run folder, of any method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpgen.arguments import speaks_python
from dpgen.generator.interface import PrivateGenerator
from dpgen.methods import find_held
from dpgen.methods.transcription import Transcription
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.certificate import NOTICE
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.statements.transcription import METHOD
from dpgen.runs.released import checked_document
from dpgen.settings import from_dict, read_config


@speaks_python
def load(path: str | Path, *, allow_unverified: bool = False) -> PrivateGenerator:
    """Loads the generator of a finished run folder, and checks every file against its statement.

    Args:
        path: the run folder.
        allow_unverified: whether to load a run that carries a notice instead of a certificate.

    Raises:
        UnverifiedClaim: the run has no guarantee, and ``allow_unverified`` is False.
        CertificateError: there is no statement, or a file does not match it.
    """
    folder = Path(path)
    if (folder / NOTICE).exists() and not allow_unverified:
        raise UnverifiedClaim(
            f"{folder} carries a notice, not a certificate: its privacy claim is not verified; "
            "--allow-unverified (allow_unverified=True) uses it all the same"
        )
    document = checked_document(folder)
    config = read_config(folder)
    try:
        method: Any = Transcription if config["method"] == METHOD else find_held(config["method"])
        budget = None  # of what was made of a classifier that came alone
        if method is not Transcription or config["budget"] is not None:
            budget = from_dict(Budget, config["budget"], "budget.")
            if budget.is_open:
                raise ValueError("setting 'budget.delta' is missing")
        settings = from_dict(method.Settings, config["settings"], held=True)
        generator: PrivateGenerator = method(budget=budget, settings=settings)
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"{folder / 'config.json'} is not what a run writes: {error!r:.200}"
        ) from None
    return generator._restore(folder, document)
