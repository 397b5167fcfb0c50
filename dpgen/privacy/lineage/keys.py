"""The secrets of a run on disk: one key per private stage, in a folder that only its owner can
read.

A key is written before its stage is charged and deleted once the stage's release is saved. While it
exists, a killed stage can be resumed and repeats its own draws. When it is gone, the stage can
never be repeated: a charged stage without a key is refused, because fresh draws would be a second
release under one charge. Beside the keys lie the marks of the line of descent that they serve
(`dpgen.privacy.lineage.memory`). A copy of the folder holds the keys: a backup of it is a
secret.
"""

from __future__ import annotations

import os
from pathlib import Path

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage.memory import Lineage
from dpgen.privacy.mechanisms.noise import KEY_BYTES, KeyedNoise, new_key
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import TEXT_BYTES, read_bytes, read_text


class StageKeys:
    """The keys of one run.

    Args:
        folder: folder of the keys, which is made with mode 0700.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(folder, 0o700)
        self._folder, self.lineage = folder, Lineage(folder)

    @property
    def _owner(self) -> Path:
        return self._folder / "owner"

    def bind(self, owner: str) -> None:
        """Binds the keys to their owner, a run on a data set, permanently: no key serves two."""
        if not self._owner.exists():
            replace_durably(self._owner, owner.encode(), mode=0o600)
        self.check(owner)

    def check(self, owner: str, *, tied: bool = False) -> None:
        """Raises LedgerError when the keys are bound to another owner.

        Args:
            tied: whether the keys must be bound already, as for a run that was begun before.
        """
        if not self._owner.exists():
            if tied:
                raise LedgerError(
                    f"{self._owner} is gone, which says what data this run was begun on, and "
                    "without it these data cannot be compared with them: restore the file, or "
                    "start a new run folder, which is charged anew"
                )
        elif read_text(self._owner) != owner:
            raise LedgerError(
                "this run was begun on other data (or they changed since): give it the data it "
                "was begun on, or start a new run folder"
            )

    def path(self, plan: str) -> Path:
        """Returns the file that holds the key of a stage."""
        return self._folder / f"{plan}.key"

    def create(self, plan: str) -> None:
        """Draws the key of a stage that has not been charged yet."""
        if not self.path(plan).exists():
            replace_durably(self.path(plan), new_key(), mode=0o600)

    def noise(self, plan: str) -> KeyedNoise:
        """Returns the stage's noise source. Raises LedgerError when its key was deleted."""
        return self._keyed(plan)

    def commitment(self, plan: str) -> str:
        """Returns the commitment to the stage's key that the ledger holds
        (`KeyedNoise.commitment`).
        """
        return self._keyed(plan).commitment()

    def _keyed(self, plan: str) -> KeyedNoise:
        try:
            key = read_bytes(self.path(plan), TEXT_BYTES)
        except FileNotFoundError:
            raise LedgerError(
                "the secret key of this stage is gone, so it cannot be repeated without "
                "spending twice: "
                "start a new run folder, it will be charged anew"
            ) from None
        if len(key) != KEY_BYTES:
            raise LedgerError(f"the key file {self.path(plan)} is damaged: start a new run folder")
        return KeyedNoise(key, plan)

    def forget(self, plan: str) -> None:
        self.path(plan).unlink(missing_ok=True)
