"""What is declared as public knowledge to leave the class of an image."""

from __future__ import annotations

AUGMENTS = ("none", "warp", "mirror", "both")


class Augmented:
    """Settings with such a declaration, ``augment``, and the strength of the warps, ``warp``."""

    augment: str | None
    warp: float

    def check_augment(self) -> None:
        """Raises ValueError for a declaration that there is not; None is still open."""
        if self.augment not in (None, *AUGMENTS):
            raise ValueError(f"augment must be one of {', '.join(AUGMENTS)}, got {self.augment!r}")

    @property
    def warps(self) -> float:
        """Returns the strength of the warps, 0 where there are none."""
        return self.warp if self.augment in ("warp", "both") else 0.0

    @property
    def mirrors(self) -> bool:
        """Returns whether mirror images are taken to be of the same class."""
        return self.augment in ("mirror", "both")
