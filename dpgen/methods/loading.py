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
from dpgen.privacy.statements.transcription import METHOD, PARENT_CONFIG
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
    return _configured(folder, "config.json")._restore(folder, document)


def load_trained(path: str | Path, *, allow_unverified: bool = False) -> PrivateGenerator:
    """Loads a finished run as `load` does; for a transcription with a certificate, the method that
    was trained at its beginning, as the transcription keeps its configuration.

    What is returned for a transcription has the folder of the transcription, whose statement holds
    the events of that training, and plans them again. It has no networks: those of the trained run
    are not in the folder.

    Args:
        path, allow_unverified: as for `load`.

    Raises:
        UnverifiedClaim, CertificateError: as for `load`.
    """
    found = load(path, allow_unverified=allow_unverified)
    if not (isinstance(found, Transcription) and found.certified):
        return found
    assert found.folder is not None and found.facts is not None
    trained = _configured(found.folder, PARENT_CONFIG)
    trained.folder, trained.facts, trained.networks = found.folder, found.facts, {}
    trained.settings = trained.resolve(found.facts)
    return trained


def _configured(folder: Path, name: str) -> PrivateGenerator:
    """Makes the generator of a configuration in a run folder, without its networks."""
    config = read_config(folder, name)
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
            f"{folder / name} is not what a run writes: {error!r:.200}"
        ) from None
    return generator
