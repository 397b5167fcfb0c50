"""What a statement says of shards that are silos."""

from __future__ import annotations

from collections.abc import Mapping

from dpgen.privacy.statements.recorded import ENSEMBLE, SHARDS, Settings


def divided(settings: Settings) -> str:
    """Describes how the shards of an ensemble are made, from the settings of its stage."""
    n = settings["n_shards"]
    if SHARDS not in settings:
        return f"in one of {n} shards by a keyed hash of itself"
    silos = settings[SHARDS]
    return (
        f"in the shard of its silo ({silos['ids']}), one of {n}; of a silo at most "
        f"{silos['max_records']}, chosen by a keyed hash of each"
    )


def silos_declared(stages: Mapping[str, Settings]) -> str:
    """Puts into words what was declared public of the silos that were shards; "" without any."""
    found = [one for one in stages.values() if one["mechanism"] == ENSEMBLE and SHARDS in one]
    if not found:
        return ""
    silos = found[0][SHARDS]
    return (
        f" So were the list of silos ({found[0]['n_shards']}, by {silos['ids']}) and the most "
        f"records of a silo that its teacher sees ({silos['max_records']}): each silo is a shard, "
        "and the guarantee is for a record (or a person), not for a silo."
    )
