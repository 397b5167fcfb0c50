"""Shards that are the silos of the data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dpgen.data.account import AccountedData

if TYPE_CHECKING:
    from dpgen.generator.interface import PrivateGenerator


@runtime_checkable
class InShards(Protocol):
    """Settings of votes by teachers of shards."""

    def of(self, silos: Any) -> Any:  # noqa: ANN401
        """Returns these settings with these silos for shards; None divides by a keyed hash."""


def with_silos(
    generator: PrivateGenerator, settings: Any, data: AccountedData  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Returns settings for these data, whose silos are the shards.

    Args:
        generator: a generator; it is not changed.
        settings: its settings.
        data: the private records.

    Raises:
        ValueError: the data have silos, and the mode asks no teachers of shards; or the settings
            are for other silos.
    """
    votes, silos = getattr(settings, "votes", None), data.silos
    if not isinstance(votes, InShards) or not generator.certified:
        if silos is not None:
            raise ValueError(
                f"{generator.mechanism_id} must be given data without silos: it has no shards. "
                "Drop --silo, or take dpsd or dgd, which train a teacher on each silo"
            )
        return settings
    return replace(settings, votes=votes.of(silos))
