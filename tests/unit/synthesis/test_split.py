import hypothesis
from hypothesis import strategies as st

from loopai.synthesis.examples import split

LABELLED = st.lists(
    st.tuples(st.integers(0, 60).map(str), st.sampled_from("abc")), min_size=20, max_size=300
)


@hypothesis.given(LABELLED, st.integers(0, 2**32))
def test_no_input_is_on_both_sides(pairs, seed):
    """Held out means unseen, copies included; and nothing held out is counted twice."""
    keys, labels = zip(*pairs, strict=True)
    seen, held = split.hold_out(keys, labels, seed)
    assert not {keys[i] for i in seen} & {keys[i] for i in held}
    assert len({keys[i] for i in held}) == len(held)
    assert {keys[i] for i in seen} | {keys[i] for i in held} == set(keys)


@hypothesis.given(LABELLED, st.integers(0, 2**32))
def test_folds_deal_out_every_example_once_and_equal_inputs_together(pairs, seed):
    """Cross-validation must not see the answer either."""
    keys, labels = zip(*pairs, strict=True)
    parts = split.folds(keys, labels, 5, seed)
    assert sorted(index for part in parts for index in part) == list(range(len(keys)))
    for key in set(keys):
        assert sum(any(keys[i] == key for i in part) for part in parts) == 1


def test_every_label_keeps_its_share():
    """A fifth of each, within rounding."""
    labels = ["rare"] * 10 + ["common"] * 190
    _, held = split.hold_out([str(i) for i in range(200)], labels, 0)
    assert len(held) == 40
    assert sum(labels[i] == "rare" for i in held) == 2


def test_at_least_ten_are_held_out_of_twenty():
    """With few examples proof is worth more than learning."""
    labels = ["a", "b"] * 10
    seen, held = split.hold_out([str(i) for i in range(20)], labels, 3)
    assert len(held) == split.HELD_OUT_MIN
    assert len(seen) == 10


def test_a_label_with_one_input_is_learned_from():
    """It could not be answered otherwise."""
    labels = ["only"] + ["a"] * 30
    for seed in range(20):
        seen, _ = split.hold_out([str(i) for i in range(31)], labels, seed)
        assert 0 in seen


def test_seeds_give_different_divisions_and_one_seed_the_same():
    """The division is random, but never by accident."""
    keys, labels = [str(i) for i in range(100)], ["a", "b"] * 50
    assert split.hold_out(keys, labels, 1) == split.hold_out(keys, labels, 1)
    assert split.hold_out(keys, labels, 1) != split.hold_out(keys, labels, 2)
