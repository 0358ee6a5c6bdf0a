"""Raw words and the exact transforms: against published vectors, big integers and the laws."""

from __future__ import annotations

import uuid
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import twin
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fleetsim.generate.config import make_config
from fleetsim.generate.model import Categorical, PoissonCount, Purpose, choice_law
from fleetsim.generate.streams import BLOCK, choose, scale, uuid_words, words

UINT64 = st.integers(0, 2**64 - 1)
PURPOSES = st.sampled_from(Purpose)

# One budget for the whole file: a correct generator fails with probability <= 1e-6 over all seeds
# that might have been written here, shared equally by its LAW_CHECKS comparisons (Bonferroni).
FALSE_ALARM = 1e-6
LAW_CHECKS = 12
ALPHA = FALSE_ALARM / LAW_CHECKS
MANY = 200_000


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
        ),
        (
            (2**64 - 1,) * 4,
            (2**64 - 1,) * 2,
            (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
        ),
        (
            (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
            (0x452821E638D01377, 0xBE5466CF34E90C6C),
            (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
        ),
    ],
)
def test_the_twins_philox_gives_the_published_vectors(counter, key, expected) -> None:
    """The plain-Python cipher equals Random123's known answers (kat_vectors, philox4x64 10)."""
    assert twin.philox(counter, key) == expected


@given(UINT64, PURPOSES, UINT64, st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 30))
def test_words_are_those_of_the_twin(seed, purpose, ordinal, block, start, count) -> None:
    """NumPy's stream is the cipher at the documented address, from any position on."""
    raw = words(seed, purpose, ordinal, block, start, count)
    expected = [
        twin.word(seed, int(purpose), ordinal, block, start + position) for position in range(count)
    ]
    assert raw.tolist() == expected


@given(st.integers(0, 10_000), st.integers(0, 200), st.integers(1, 200))
def test_a_word_does_not_depend_on_where_drawing_starts(start, before, count) -> None:
    """Words drawn in one piece equal words drawn in two."""
    whole = words(7, Purpose.EVENT_ID, 3, 2, start, before + count)
    assert (
        whole[before:].tolist() == words(7, Purpose.EVENT_ID, 3, 2, start + before, count).tolist()
    )


def test_every_part_of_the_address_changes_the_words() -> None:
    """Seed, purpose, ordinal, block and position each lead to other words."""
    addresses = [
        (1, Purpose.EVENT_ID, 0, 0, 0),
        (2, Purpose.EVENT_ID, 0, 0, 0),
        (1, Purpose.EVENT_TYPE, 0, 0, 0),
        (1, Purpose.EVENT_ID, 1, 0, 0),
        (1, Purpose.EVENT_ID, 0, 1, 0),
        (1, Purpose.EVENT_ID, 0, 0, 4),
    ]
    drawn = np.concatenate([words(*address, 4) for address in addresses])
    assert len(set(drawn.tolist())) == 4 * len(addresses)


def test_purposes_and_the_block_have_the_documented_numbers() -> None:
    """The constants of the addresses are those that the twin states on its own."""
    assert BLOCK == twin.ROWS_OF_A_BLOCK
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        name: value
        for name, value in vars(twin).items()
        if name.startswith(("EVENT_", "COMPANY_", "DEFECT"))
    }


@given(st.lists(UINT64, min_size=1, max_size=20), st.integers(1, 2**63 - 1))
def test_scale_is_the_high_half_of_the_exact_product(raw, length) -> None:
    """floor(word * length / 2**64) holds for every word and every length below 2**63."""
    expected = [word * length // 2**64 for word in raw]
    assert scale(np.array(raw, np.uint64), length).tolist() == expected


def test_scale_never_reaches_the_length() -> None:
    """The largest word gives length - 1 and the smallest 0, so an offset lies in [0, length)."""
    edges = np.array([0, 2**64 - 1], np.uint64)
    for length in (1, 2, 900_000_000, 86_400_000_000, 2**63 - 1):
        assert scale(edges, length).tolist() == [0, length - 1]


@given(st.lists(UINT64, min_size=2, max_size=20).filter(lambda raw: len(raw) % 2 == 0))
def test_uuid_words_have_version_and_variant_of_rfc_9562(raw) -> None:
    """Each pair of words becomes a version 4 UUID and keeps its 122 other bits."""
    pairs = uuid_words(np.array(raw, np.uint64)).tolist()
    for (high, low), made in zip(zip(raw[::2], raw[1::2], strict=True), pairs, strict=True):
        expected = uuid.UUID(int=high << 64 | low, version=4)
        assert uuid.UUID(int=made[0] << 64 | made[1]) == expected
        assert (expected.version, expected.variant) == (4, uuid.RFC_4122)


def test_uuid_words_leave_the_raw_words_alone() -> None:
    """The transform works on a copy."""
    raw = np.array([2**64 - 1, 0], np.uint64)
    uuid_words(raw)
    assert raw.tolist() == [2**64 - 1, 0]


@given(st.lists(UINT64, max_size=8).map(sorted), st.lists(UINT64, min_size=1, max_size=20))
def test_choose_counts_the_thresholds_up_to_each_word(thresholds, raw) -> None:
    """A word equal to a threshold lies above it, so P(choice <= k) = threshold / 2**64."""
    raw = [*raw, *thresholds]
    expected = [sum(1 for threshold in thresholds if threshold <= word) for word in raw]
    assert choose(np.array(raw, np.uint64), thresholds).tolist() == expected


@pytest.mark.parametrize("mean", [0.0, -0.0, 5e-324, 1e-12, 0.01, 0.1, 1.0, 3.5, 59.2, 1e3, 1e4])
def test_poisson_thresholds_equal_those_of_another_precision(mean) -> None:
    """Two ways to the table (60 and 90 digits, other order of products) agree in every integer."""
    assert PoissonCount(mean).thresholds == twin.poisson_table(repr(mean))


@pytest.mark.parametrize("mean", [1e-12, 0.01, 1.0, 3.5, 59.2, 1e3, 1e4])
def test_poisson_thresholds_reproduce_scipys_cdf(mean) -> None:
    """Every threshold over 2**64 is SciPy's cdf, and what is left of it SciPy's survival function.

    Both differences are held to 2**-60, or to 1e-12 of the value, which is SciPy's own accuracy:
    so each tail is compared where a double has the digits for it.
    """
    table = PoissonCount(mean).thresholds
    k = np.arange(len(table))
    below = np.array([float(Fraction(threshold, 2**64)) for threshold in table])
    above = np.array([float(Fraction(2**64 - threshold, 2**64)) for threshold in table])
    for ours, theirs in (
        (below, stats.poisson.cdf(k, mean)),
        (above, stats.poisson.sf(k, mean)),
    ):
        assert np.all(np.abs(ours - theirs) <= np.maximum(2.0**-60, 1e-12 * theirs))
    assert list(table) == sorted(table)
    assert table[-1] == 2**64 - 1


@pytest.mark.parametrize("mean", [0.01, 3.5, 1e4])
def test_poisson_thresholds_have_the_moments_of_the_law(mean) -> None:
    """Mean and variance computed from the integer table are those that the law states."""
    table = [0, *PoissonCount(mean).thresholds, 2**64]
    shares = [Fraction(after - before, 2**64) for before, after in pairwise(table)]
    first = sum(k * share for k, share in enumerate(shares))
    second = sum(k * k * share for k, share in enumerate(shares))
    law = PoissonCount(mean)
    assert float(first) == pytest.approx(law.mean, rel=1e-14)
    assert float(second - first**2) == pytest.approx(law.variance, rel=1e-12)


def test_a_rate_of_zero_gives_no_event_for_any_word() -> None:
    """Also the largest word stands for a count of 0, so a batch at rate 0 is certainly empty."""
    law = PoissonCount(0.0)
    assert choose(np.array([0, 2**64 - 1], np.uint64), law.thresholds).tolist() == [0, 0]


def test_a_rate_of_1e_minus_12_gives_an_event_about_once_in_1e12_words() -> None:
    """The first threshold is floor(exp(-1e-12) * 2**64), exactly."""
    table = PoissonCount(1e-12).thresholds
    assert 2**64 - table[0] == pytest.approx(2**64 * 1e-12, abs=1)
    assert choose(np.array([table[0] - 1, table[0]], np.uint64), table).tolist() == [0, 1]


WEIGHTS = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


@given(WEIGHTS, st.lists(UINT64, min_size=1, max_size=30), st.randoms())
def test_a_choice_is_the_twins_and_ignores_the_order_of_the_weights(parts, raw, random) -> None:
    """The name that a word stands for follows from the weights alone, whatever their order."""
    weights = {chr(ord("a") + i) + "ä": part / sum(parts) for i, part in enumerate(parts)}
    shuffled = dict(random.sample(list(weights.items()), len(weights)))
    expected = [twin.pick(weights, word) for word in raw]
    for mapping in (weights, shuffled):
        law = Categorical(tuple(mapping.items()))
        positions = np.array(law.sampling_order)[choose(np.array(raw, np.uint64), law.thresholds)]
        assert [law.names[i] for i in positions] == expected


@pytest.mark.parametrize(
    "weights", [{"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.0, "c": 0.5}]
)
def test_a_weight_of_zero_is_never_chosen(weights) -> None:
    """Not even the smallest or the largest word, nor one at a threshold, gives such a name."""
    law = Categorical(tuple(weights.items()))
    raw = {0, 2**64 - 1} | {t + d for t in law.thresholds for d in (-1, 0) if 0 <= t + d < 2**64}
    positions = choose(np.array(sorted(raw), np.uint64), law.thresholds)
    names = {law.names[law.sampling_order[position]] for position in positions}
    assert names == {name for name, weight in weights.items() if weight}


def test_weights_that_miss_a_sum_of_one_slightly_are_divided_by_it() -> None:
    """Ten weights of 0.1 are equal shares, and probabilities sum to one."""
    law = Categorical(tuple((f"type {i}", 0.1) for i in range(10)))
    assert law.thresholds == tuple(k * 2**64 // 10 for k in range(1, 10))
    assert sum(law.probabilities) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_a_flag_is_true_with_its_probability(fraction) -> None:
    """The law of a probability has the names true and false, and certain ones leave no choice."""
    config = make_config(
        {
            "seed": 1,
            "number_of_companies": 1,
            "drivers_per_company": 1,
            "event_rate_per_driver": 1,
            "company_onboarding_interval": "PT1H",
            "active_fraction": fraction,
        }
    )
    law = choice_law(config, "active_fraction")
    assert dict(zip(law.names, law.probabilities, strict=True)) == {
        "true": fraction,
        "false": 1 - fraction,
    }
    assert len(law.thresholds) <= 2


def _raw(purpose: Purpose, seed: int) -> np.ndarray:
    return np.concatenate([words(seed, purpose, 0, block, 0, MANY // 10) for block in range(10)])


def _pooled(observed: np.ndarray, expected: np.ndarray) -> float:
    """Return the p-value of a chi-square test with cells of fewer than 10 expected pooled."""
    few = expected < 10
    observed = np.append(observed[~few], observed[few].sum())
    expected = np.append(expected[~few], expected[few].sum())
    keep = expected > 0
    return stats.chisquare(observed[keep], expected[keep]).pvalue


@pytest.mark.parametrize(("mean", "seed"), [(0.01, 1), (3.5, 2), (3.5, 3), (60.0, 4), (1e4, 5)])
def test_drawn_counts_agree_with_the_law(mean, seed) -> None:
    """The counts of many words pass a chi-square test against Poisson (5 of LAW_CHECKS)."""
    counts = choose(_raw(Purpose.EVENT_COUNT, seed), PoissonCount(mean).thresholds)
    observed = np.bincount(counts)
    expected = MANY * stats.poisson.pmf(np.arange(len(observed)), mean)
    expected[-1] += MANY * stats.poisson.sf(len(observed) - 1, mean)
    assert _pooled(observed, expected) > ALPHA


@pytest.mark.parametrize(("weights", "seed"), [((0.4, 0.35, 0.25), 6), ((0.001, 0, 0.999), 7)])
def test_drawn_types_agree_with_the_law(weights, seed) -> None:
    """The choices of many words pass a chi-square test against their weights (2 of LAW_CHECKS)."""
    law = Categorical(tuple(zip("abc", weights, strict=True)))
    drawn = choose(_raw(Purpose.EVENT_TYPE, seed), law.thresholds)
    observed = np.bincount(drawn, minlength=3)
    assert _pooled(observed, MANY * np.array(law.probabilities)) > ALPHA


@pytest.mark.parametrize(("length", "seed"), [(900_000_000, 8), (86_400_000_000, 9), (1000, 10)])
def test_drawn_offsets_are_uniform(length, seed) -> None:
    """The offsets of many words pass a chi-square test of 100 equal cells (3 of LAW_CHECKS)."""
    offsets = scale(_raw(Purpose.EVENT_OFFSET, seed), length)
    observed = np.bincount(offsets * 100 // length, minlength=100)
    assert _pooled(observed, np.full(100, MANY / 100)) > ALPHA


def test_words_of_two_purposes_are_independent() -> None:
    """Top bits of two streams at the same addresses fill a 16 x 16 table evenly (1 check)."""
    one, two = _raw(Purpose.EVENT_COUNT, 11), _raw(Purpose.EVENT_TYPE, 11)
    cells = ((one >> np.uint64(60)) * np.uint64(16) + (two >> np.uint64(60))).astype(np.int64)
    observed = np.bincount(cells, minlength=256)
    assert _pooled(observed, np.full(256, MANY / 256)) > ALPHA


def test_words_of_neighbouring_ordinals_are_independent() -> None:
    """Top bits of two batches at the same addresses fill a 16 x 16 table evenly (1 check)."""
    one, two = (words(12, Purpose.EVENT_COUNT, n, 0, 0, MANY) for n in (0, 1))
    cells = ((one >> np.uint64(60)) * np.uint64(16) + (two >> np.uint64(60))).astype(np.int64)
    observed = np.bincount(cells, minlength=256)
    assert _pooled(observed, np.full(256, MANY / 256)) > ALPHA


def test_counts_of_another_rate_are_rejected() -> None:
    """The control: the comparison above does see a mean that is off by 2 percent."""
    counts = choose(_raw(Purpose.EVENT_COUNT, 2), PoissonCount(3.57).thresholds)
    observed = np.bincount(counts)
    expected = MANY * stats.poisson.pmf(np.arange(len(observed)), 3.5)
    expected[-1] += MANY * stats.poisson.sf(len(observed) - 1, 3.5)
    assert _pooled(observed, expected) < ALPHA
