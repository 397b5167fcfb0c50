"""A file or folder that a command writes where its user asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class NewFile(click.ParamType):  # type: ignore[type-arg]
    """The path of what is to be written: no run and no set lies around it, since their statements
    cover no file that is added to them.

    Args:
        suffix: how the name of a file must end, as ``.png``; ``None`` for any end.
        folder: it is a folder, made with those around it; that of a file must exist.
    """

    name = "path"

    def __init__(self, suffix: str | None = None, *, folder: bool = False) -> None:
        self.suffix, self.folder = suffix, folder

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None  # noqa: ANN401
    ) -> Path:  # fmt: skip
        from dpgen.privacy.statements.outside import check_new_file, check_outside

        path, option = Path(value), param.opts[-1] if param else "path"
        if self.folder:
            check_outside(path, option)
        else:
            check_new_file(path, option, self.suffix)
        return path
