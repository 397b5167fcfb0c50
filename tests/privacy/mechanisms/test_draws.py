from __future__ import annotations

import numpy as np
import pytest
import torch

from dpgen.privacy.mechanisms.draws import KEY_BYTES, Draws, philox

KEY = bytes(range(KEY_BYTES))
# Counter, key, answer: the known answers of the authors' Random123 for philox4x32-10.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
SLOTS = np.array([0, 1, 7, 2**32 - 1, 2**32, 2**63])


def drawn(slots: np.ndarray, key: bytes = KEY) -> list[torch.Tensor]:
    draws = Draws(key, slots)
    return [draws.normal(3), draws.normal(2, 5), draws.uniform(), draws.signs(2, 17)]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN, ids=["zeros", "ones", "pi"])
def test_the_words_are_the_published_answers_of_philox(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    words = philox(key, tuple(torch.tensor([word]) for word in counter))
    assert tuple(int(word) for word in words) == answer


def test_a_records_numbers_depend_on_its_slot_and_not_on_its_company() -> None:
    together = drawn(SLOTS)
    for i, slot in enumerate(SLOTS):
        for whole, alone in zip(together, drawn(np.array([slot])), strict=True):
            assert torch.equal(whole[i], alone[0])
    for whole, turned in zip(together, drawn(SLOTS[::-1].copy()), strict=True):
        assert torch.equal(whole.flip(0), turned)


def test_no_two_slots_keys_or_calls_share_a_number() -> None:
    draws = Draws(KEY, SLOTS)
    parts = [draws.normal(500), draws.normal(500), Draws(bytes(KEY_BYTES), SLOTS).normal(500)]
    values = torch.cat([part.flatten() for part in parts])
    assert len(values.unique()) > 0.999 * len(values)  # float32 numbers may meet by chance
    z = np.corrcoef(torch.cat(parts).numpy()) * 500**0.5
    assert np.abs(z - np.diag(np.diag(z))).max() < 6


def test_normals_have_the_law_of_normals() -> None:
    x = Draws(KEY, np.arange(1000)).normal(1001).double()
    error = x.numel() ** -0.5
    for power, moment, spread in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs(x.pow(power).mean() - moment) < 6 * spread * error
    assert 4.5 < x.abs().max() < 6.7
    halves = x[:, :500], x[:, 501:]  # one radius makes a number in each
    assert abs((halves[0].square() * halves[1].square()).mean() - 1) < 6 * 8 * error


def test_uniforms_are_uniform_and_signs_are_fair_and_unrelated() -> None:
    draws = Draws(KEY, np.arange(20_000))
    u = draws.uniform(4)
    assert ((u >= 0) & (u < 1)).all()
    counts = torch.histc(u, 10, 0, 1)
    assert ((counts - 8000).abs() < 6 * 8000**0.5).all()
    signs = draws.signs(2, 3).reshape(20_000, 6).double()
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert signs.mean(0).abs().max() < 6 / 20_000**0.5
    assert (signs.T @ signs / 20_000 - torch.eye(6)).abs().max() < 6 / 20_000**0.5


@pytest.mark.parametrize("key", [b"", bytes(7), bytes(16)], ids=["none", "short", "long"])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="key must have 8 bytes"):
        Draws(key, SLOTS)


def test_a_record_that_has_used_up_its_words_gets_no_word_twice() -> None:
    draws = Draws(KEY, SLOTS)
    draws._n_blocks = 2**32 - 1
    assert len(draws.uniform()) == len(draws) == len(SLOTS)
    with pytest.raises(ValueError, match="a record has 17179869184 words at a release"):
        draws.uniform()
