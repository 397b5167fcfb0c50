"""A file or folder that a command writes where its user asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class NewFile(click.ParamType):  # type: ignore[type-arg]
    """The path of what is to be written: no run and no set lies around it, since their statements
    cover no file that is added to them.

    Args:
        suffix: how its name must end, as ``.png``; ``None`` for any end.
        folder: it is a folder, made with those around it; that of a file must exist.
    """

    name = "path"

    def __init__(self, suffix: str | None = None, *, folder: bool = False) -> None:
        self.suffix, self.folder = suffix, folder

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None  # noqa: ANN401
    ) -> Path:  # fmt: skip
        from dpgen.privacy.statements.outside import check_outside

        path, option = Path(value), param.opts[-1] if param else "path"
        if self.suffix is not None and path.suffix.lower() != self.suffix:
            raise ValueError(f"{option} must end in {self.suffix}, got {path.name!r}")
        if not self.folder and not path.absolute().parent.is_dir():
            raise ValueError(f"{option} {path}: there is no folder {path.absolute().parent}")
        check_outside(path, option)
        return path
