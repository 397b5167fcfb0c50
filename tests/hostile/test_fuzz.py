"""Mutated files of every format: accepted as something legal, or refused; never anything else.

``scripts/fuzz.py`` does the same for as long as it is told to.
"""

from __future__ import annotations

import random
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.children import in_child
from tests.hostile.formats import Format, outcome
from tests.hostile.image_formats import image_formats
from tests.hostile.mutations import mutated, mutated_json
from tests.hostile.run_formats import (
    NAMES,
    holds,
    remembered_prices,
    run_formats,
    synthetic_set,
)
from tests.hostile.tensor_formats import tensor_formats
from tests.hostile.text_formats import text_formats

pytestmark = pytest.mark.usefixtures("one_thread")

N_EXAMPLES = 20  # of each format
FORMS = [*image_formats(), *text_formats(), *tensor_formats()]


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """A reader that reserves a gigabyte for a few bytes gets a MemoryError, which is a fault."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def of_a_run(
    finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Format]]:
    with remembered_prices() as freeze:
        synthetic = synthetic_set(finished, tmp_path_factory.mktemp("fuzz") / "set")
        for folder in (finished, synthetic):
            holds(folder)
        freeze()
        yield {form.name: form for form in run_formats(finished, synthetic)}


def answered(form: Format, content: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        if not form.native:
            return outcome(form, content, Path(folder))
        found = in_child(lambda: form.judge(content, Path(folder)))
        assert found.refused or not found.error, found.message
        return "refused" if found.refused else "accepted"


def fuzz(form: Format) -> None:
    @settings(
        max_examples=N_EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def every_mutant_is_answered(choices: random.Random) -> None:
        answered(form, form.mutant(choices))

    assert answered(form, form.genuine) == "accepted"
    every_mutant_is_answered()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_mutated_file_is_legal_or_refused(form: Format) -> None:
    if "ledger" in form.name:
        with remembered_prices() as freeze:
            answered(form, form.genuine)
            freeze()
            fuzz(form)
    else:
        fuzz(form)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_or_forged_run_is_refused_or_legal(
    name: str, of_a_run: dict[str, Format]
) -> None:
    fuzz(of_a_run[name])


def test_every_part_of_a_run_is_fuzzed(of_a_run: dict[str, Format]) -> None:
    assert sorted(of_a_run) == sorted(NAMES)


def test_mutants_are_mutants_and_the_same_again() -> None:
    content, value = bytes(range(200)), {"a": [1, {"b": 2}], "c": "d"}
    drawn = [mutated(content, random.Random(i)) for i in range(200)]
    assert drawn == [mutated(content, random.Random(i)) for i in range(200)]
    assert len(set(drawn) - {content}) > 150
    assert {len(d) < 200 for d in drawn} == {True, False} and max(map(len, drawn)) > 200
    values = [repr(mutated_json(value, random.Random(i))) for i in range(200)]
    assert len(set(values)) > 80 and repr(value) == repr({"a": [1, {"b": 2}], "c": "d"})
