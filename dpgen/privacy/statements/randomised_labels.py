"""What a statement says of labels that were changed at random: that nothing rests on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "randomised_labels"  # in a statement; absent where labels are as the teacher gave them
# Without the parameter of the response, which is in config.json: beside the guarantee it would be
# read as an epsilon.
SENTENCE = (
    "The student learned labels of made-up images, and these were changed at random before it saw "
    "them. That protects no record: no part of the guarantee rests on it."
)


def are_randomised(config: Mapping[str, Any]) -> bool:
    """Returns whether a run with this content of ``config.json`` changes labels at random."""
    labels = config["settings"].get("labels") or {}
    return labels.get("randomise") is not None


def randomised_of(statement: Mapping[str, Any]) -> list[str]:
    """Returns the sentence of a statement on labels that were changed at random, if there is one.
    """
    return [str(statement[KEY])] if KEY in statement else []
