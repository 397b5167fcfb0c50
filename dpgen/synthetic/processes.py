"""Draws the blocks of a set in several processes of this machine, and yields them in order.

Every process loads the run itself and draws every n-th block. No process writes a file: images come
through a pipe, a few blocks ahead at most, to the one process that writes the set.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from torch import Tensor

from dpgen.generator.draw import Draw
from dpgen.generator.drawing import Redraws
from dpgen.images.images import Images, to_float, to_uint8
from dpgen.methods.loading import load
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.storage.canonical import digest

AHEAD = 2  # blocks of one process that wait to be written
STOP_SECONDS = 5.0  # until a process that does not stop is killed


@dataclass(frozen=True)
class Work:
    """What the processes draw from, the same for all.

    Args:
        run: folder of the run.
        document: digest of the run's certificate or notice.
        draw: how images are drawn.
        labels: labels of the whole set, (N,).
        seed: seed of the whole set.
        allow_unverified: whether the run may carry a notice.
    """

    run: Path
    document: str
    draw: Draw
    labels: Tensor
    seed: int
    allow_unverified: bool

    def blocks(self, chosen: range, redraws: Redraws) -> Iterator[Images]:
        """Draws the chosen blocks of the set. Raises CertificateError if the run is not the one
        that was named.
        """
        generator = load(self.run, allow_unverified=self.allow_unverified)
        if digest(generator.document.content) != self.document:
            raise CertificateError(f"{self.run} was changed while images were drawn: draw again")
        rng = torch.Generator().manual_seed(self.seed)
        return generator.sample_blocks(
            len(self.labels), self.draw, labels=self.labels, generator=rng, blocks=chosen,
            redraws=redraws,
        )  # fmt: skip


@contextmanager
def drawn_by(
    jobs: int, work: Work, blocks: range, redraws: Redraws
) -> Iterator[Iterator[Images]]:
    """Yields the images of ``blocks``, in order, rounded to uint8. All processes have ended when
    the context is left, whether by the end, an error or an interrupt.

    Each process computes with an equal share of the threads of this one, at least 1, and takes the
    next GPU in turn where there are any. Another number of threads may round an image differently.

    Args:
        jobs: number of processes.
        work: what they draw from.
        blocks: the numbers of the blocks to draw.
        redraws: counts what was drawn again, of the images that were yielded.

    Raises:
        ChildProcessError: a process was killed.
    """
    n_threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    processes, ends = [], []
    try:
        for rank in range(min(jobs, len(blocks))):
            end, other = context.Pipe(duplex=False)
            given = (other, work, blocks[rank::jobs], rank, n_threads)
            process = context.Process(target=_draw, args=given, daemon=True)
            with _uninterrupted():
                process.start()
            other.close()  # the end of the process then is the end of the pipe
            processes.append(process)
            ends.append(end)
        yield _in_order(processes, ends, len(blocks), redraws)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        for end in ends:
            end.close()


def _in_order(
    processes: list[SpawnProcess], ends: list[Connection], n_blocks: int, redraws: Redraws
) -> Iterator[Images]:
    """Yields the blocks as they are numbered, and takes others in meanwhile."""
    held: list[deque[tuple[Images, Redraws]]] = [deque() for _ in ends]
    left = [len(range(rank, n_blocks, len(ends))) for rank in range(len(ends))]
    for block in range(n_blocks):
        while not held[block % len(ends)]:
            for end in wait([
                end for end, own, n in zip(ends, held, left, strict=True) if n and len(own) < AHEAD
            ]):  # fmt: skip
                rank = ends.index(end)  # type: ignore[arg-type]
                held[rank].append(_received(processes[rank], ends[rank], rank))
                left[rank] -= 1
        images, counted = held[block % len(ends)].popleft()
        redraws.add(counted)
        yield images


def _received(process: SpawnProcess, end: Connection, rank: int) -> tuple[Images, Redraws]:
    """Returns the next block of a process, and what was drawn again for it. Raises its error, or an
    error that says how it ended.
    """
    try:
        found = end.recv()
    except EOFError:
        process.join(STOP_SECONDS)
        status = process.exitcode
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        raise ChildProcessError(
            f"sampling process {rank + 1} ended with {how}; if memory ran out, take fewer --jobs"
        ) from None
    if isinstance(found, BaseException):
        raise found
    pixels, labels, counted = found
    return Images(to_float(torch.from_numpy(pixels)), torch.from_numpy(labels)), counted


def _draw(end: Connection, work: Work, blocks: range, rank: int, n_threads: int) -> None:
    """Draws blocks in a process of its own and sends them, or the error that stopped it."""
    torch.set_num_threads(n_threads)
    warnings.simplefilter("ignore")  # the process that writes has shown them
    if work.draw.device == "auto" and torch.cuda.is_available():
        gpu = f"cuda:{rank % torch.cuda.device_count()}"
        work = replace(work, draw=replace(work.draw, device=gpu))
    with suppress(BrokenPipeError):  # nobody reads any more
        try:
            redraws = Redraws()
            for block in work.blocks(blocks, redraws):
                told = redraws.taken()
                end.send((to_uint8(block.pixels).numpy(), block.labels.numpy(), told))
        except BrokenPipeError:
            raise
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            end.send(error)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Starts processes that a terminal's interrupt does not reach: the one that writes stops them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
