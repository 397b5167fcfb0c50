from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dpgen.images.images import PublicFacts, to_float, to_uint8
from dpgen.privacy.statements.certificate import LARGEST_STATEMENT, statement_bytes

FACTS = {"shape": [1, 28, 28], "n_records": 60000}


def test_every_pixel_value_survives_the_way_to_float_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)


def test_black_and_white_are_the_ends_of_the_range() -> None:
    assert to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_generated_pixels_outside_the_range_are_clipped() -> None:
    assert to_uint8(torch.tensor([-1.5, 1.5, 0.0])).tolist() == [0, 255, 128]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_pixels_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        to_uint8(torch.tensor([0.0, bad]))


def test_conversions_refuse_the_wrong_kind_of_pixels() -> None:
    with pytest.raises(ValueError, match="uint8, got torch.float32"):
        to_float(torch.zeros(1))
    with pytest.raises(ValueError, match="floating point, got torch.uint8"):
        to_uint8(torch.zeros(1, dtype=torch.uint8))


def test_facts_survive_the_way_to_a_dictionary_and_back() -> None:
    facts = PublicFacts((3, 32, 48), ("cat", "dog"), 7, "replace_one", 2, "stated")
    assert PublicFacts.from_dict(facts.to_dict()) == facts
    assert facts.n_classes == 2


def test_facts_without_class_names_have_one_class() -> None:
    assert PublicFacts.from_dict(FACTS).class_names == ("all",)


@pytest.mark.parametrize(
    "names", [[str(i) for i in range(65_536)], ["a" * 983_030], ["\u6f22" * 327_676]]
)
def test_a_statement_has_room_for_the_longest_list_of_classes(names: list[str]) -> None:
    """A run that was paid for must not turn out unreadable."""
    facts = PublicFacts.from_dict(FACTS | {"class_names": names, "n_records": 10**9})
    assert len(statement_bytes({"facts": facts.to_dict()})) < LARGEST_STATEMENT - 2**15


def test_an_unknown_fact_is_refused_and_the_nearest_one_named() -> None:
    with pytest.raises(ValueError, match="'n_record'.*'n_records'"):
        PublicFacts.from_dict({"shape": [1, 8, 8], "n_record": 5})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shape": [2, 8, 8]}, "1 or 3 channels"),
        ({"shape": [1, 8]}, "channels, height, width"),
        ({"shape": [1, 8, 0]}, "shape"),
        ({"shape": [1, 8, 8.0]}, "8.0"),
        ({"shape": "188"}, "'188'"),
        ({"n_records": 0}, "at least 1, got 0"),
        ({"n_records": True}, "n_records"),
        ({"n_records": 10.5}, "10.5"),
        ({"class_names": []}, "at least one class"),
        ({"class_names": ["a", "a"]}, "'a' twice"),
        ({"class_names": ["a\n"]}, "control"),
        ({"class_names": ["a" * 983_031]}, "at most 983040 bytes .* got 983041 for 1 names"),
        ({"class_names": "ab"}, "list of str"),
        ({"adjacency": "remove"}, "add_remove, replace_one"),
        ({"max_records_per_unit": 0}, "max_records_per_unit"),
        ({"max_records_per_unit": 60001}, "60001"),
        ({"origin": "guessed"}, "stated, declared"),
        ({"schema": "dpgen-facts/2"}, "dpgen-facts/2"),
    ],
)
def test_a_fact_that_breaks_its_rule_is_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        PublicFacts.from_dict(FACTS | change)


def test_a_facts_file_states_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "facts.toml"
    path.write_text('shape = [1, 28, 28]\nn_records = 60000\nclass_names = ["a", "b"]\n')
    assert PublicFacts.load(path) == PublicFacts((1, 28, 28), ("a", "b"), 60000, origin="stated")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("shape = [1, 28", "TOML"),
        ("shape = [1, 28, 28]", "n_records"),
        ('shape = [1, 28, 28]\nn_records = 5\norigin = "declared"', "origin"),
        ("shape = [1, 28, 28]\nn_records = 0", "facts.toml: n_records"),
    ],
)
def test_a_bad_facts_file_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "facts.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=word):
        PublicFacts.load(path)
