"""`fit` in several processes: process 0 learns, the others compute shares for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dpgen.data.charged import ChargedData
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.generator.budget import settle_budget
from dpgen.images.facts import PublicFacts
from dpgen.runs.context import Hardware
from dpgen.runs.processes import Processes, join, launched
from dpgen.runs.released import checked_document, read_facts
from dpgen.settings import from_dict, read_config

F = TypeVar("F", bound=Callable[..., Any])


def led_by_process_0(fit: F) -> F:
    """Makes a `fit` that a launcher has started in several processes run in process 0 alone.

    The others compute the shares that it sends them (the generator's ``assist``), and then return
    the generator that process 0 has released, from its run folder; when process 0 fails, they raise
    `dpgen.runs.processes.Stopped`. A decorator.
    """

    @functools.wraps(fit)
    def led(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if launched() and self.assist is None:
            raise ValueError(
                f"{type(self).__name__} has no steps that processes share: start it in one process"
            )
        processes = join()
        if processes is None:
            return fit(self, *args, **kwargs)
        if processes.rank > 0:
            data = args[0] if args else kwargs["data"]
            return _followed(self, processes, kwargs.get("hardware") or Hardware(), data)
        with processes.leading():
            fitted = fit(self, *args, **kwargs)
            processes.result = str(Path(fitted.folder).resolve())
        return fitted

    return led  # type: ignore[return-value]


def as_private(data: Any) -> ChargedData:  # noqa: ANN401
    """Opens what `fit` was given, unless it is open."""
    return data if isinstance(data, ChargedData) else PrivateDataset(open_source(data))


def _followed(
    generator: Any, processes: Processes, hardware: Hardware, data: Any  # noqa: ANN401
) -> Any:  # noqa: ANN401  # fmt: skip
    """Assists process 0, and returns the generator with what process 0 has released."""

    def opened() -> Any:  # noqa: ANN401
        private = as_private(data)
        assert isinstance(private, PrivateDataset)  # nothing else has steps that processes share
        return private.checked_records()

    open_fn = opened if hardware.readers == "all" else None
    folder = Path(generator.assist(processes, hardware.accelerator().device, open_fn))
    if not folder.is_dir():
        raise ValueError(
            f"the run folder must lie where all processes find it, process {processes.rank} does "
            f"not find {folder}: the run is finished, load it where it is"
        )
    document = checked_document(folder)
    settle_budget(generator, PublicFacts.from_dict(read_facts(folder)).n_records)
    held = read_config(folder)["settings"]
    generator.settings = from_dict(generator.Settings, held, held=True)
    return generator._restore(folder, document)
