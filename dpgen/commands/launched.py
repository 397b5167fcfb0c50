"""A command that a launcher has started in several processes."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable
from typing import Any


def led_by_process_0(command: Callable[..., None]) -> Callable[..., None]:
    """Makes a command run in process 0 alone; the others compute the shares that it sends them,
    print nothing, and end when it does. A decorator.
    """

    @functools.wraps(command)
    def led(**given: Any) -> None:  # noqa: ANN401
        # Without a launcher torch is not imported here.
        processes = None
        if "WORLD_SIZE" in os.environ:
            from dpgen.runs.processes import join

            processes = join()
        if processes is None:
            command(**given)
        elif processes.rank > 0:
            _assist(given)
        else:
            with processes.leading():
                command(**given)

    return led


def _assist(given: dict[str, Any]) -> None:
    """Computes shares for process 0 until it ends. If it fails, it says why itself."""
    from dpgen.commands.inputs import hardware, open_data
    from dpgen.runs.processes import Stopped, joined
    from dpgen.stages.shared_steps import assist

    processes, here = joined(), hardware(given)
    assert processes is not None

    def opened() -> Any:  # noqa: ANN401
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # process 0 says what is to be said of the data
            return open_data({**given, "quiet": True}).checked_records()

    with contextlib.suppress(Stopped, KeyboardInterrupt):
        device = here.accelerator().device
        assist(processes, device, opened if here.readers == "all" else None)
