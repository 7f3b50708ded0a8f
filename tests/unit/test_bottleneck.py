"""Bottlenecks where it is known what a concept carries: exact decisions, corrections that help, and leaks that show."""

import numpy as np
import pytest

from xiqa.concepts.bottleneck import (
    Labelled,
    bottleneck_scores,
    corrected,
    fit_independent,
    fit_joint,
    fit_sequential,
    greedy_order,
    intervention_curve,
)


def labelled(seed: int, concepts, n: int = 400, error: float = 0.6) -> Labelled:
    """Two causes of a decision of which features show one well and one badly, and what the concepts make of them."""
    draw = np.random.default_rng(seed)
    causes, other = draw.standard_normal((n, 2)), draw.standard_normal((n, 2))
    x = np.concatenate([causes + error * draw.standard_normal((n, 2)) * [0.2, 1], other], 1)
    return Labelled(x, concepts(causes, other), causes.sum(1) > 0)


def complete(causes, _):
    return causes


def irrelevant(_, other):
    return np.stack([other[:, 0], (other[:, 1] > 0).astype(float)], 1)


@pytest.fixture(scope="module")
def of_complete():
    train, test = labelled(0, complete), labelled(1, complete)
    return train, test, *bottleneck_scores(train, test, np.arange(400), seed=0)


def row(scores, bottleneck, weight=None):
    found = scores[scores["bottleneck"] == bottleneck]
    return (found if weight is None else found[found["joint_weight"] == weight]).iloc[0]


def test_complete_concepts_decide_as_the_black_box_does_and_rise_to_all_when_corrected(of_complete):
    _, _, scores, _ = of_complete
    assert row(scores, "true concepts").accuracy >= 0.97
    for name in ("independent", "sequential", "joint"):
        made = row(scores, name)
        assert abs(made.accuracy - row(scores, "black box").accuracy) <= 0.05
        assert made.over_true <= 0  # nothing leaks
    assert row(scores, "independent").all_corrected == row(scores, "true concepts").accuracy
    assert row(scores, "independent").concept_r_squared == pytest.approx((1 / 1.0144 + 1 / 1.36) / 2, abs=0.05)
    assert scores["accuracy"].between(scores["ci_low"], scores["ci_high"]).all()


def test_the_concept_that_is_estimated_badly_is_corrected_first(of_complete):
    train, test, _, curves = of_complete
    assert greedy_order(fit_independent(train, 0), train) == [1, 0]
    own = curves[curves["bottleneck"] == "independent"].set_index(["order", "corrected"])["accuracy"]
    assert own["greedy", 1] > own["random", 1] > own["random", 0] == own["greedy", 0]
    assert own["greedy", 2] == own["random", 2] >= 0.97
    made = fit_independent(train, 0)
    once = intervention_curve(made, train, test, np.arange(400), seed=3)
    assert once.equals(intervention_curve(made, train, test, np.arange(400), seed=3))


def test_concepts_that_do_not_decide_stay_at_the_majority_unless_something_leaks():
    """The control: a joint bottleneck with light concepts decides well by concepts that have nothing to do with it."""
    train, test = labelled(2, irrelevant), labelled(3, irrelevant)
    scores, _ = bottleneck_scores(train, test, np.arange(400), seed=0)
    for name in ("independent", "sequential"):
        assert abs(row(scores, name).accuracy - 0.5) < 0.08
    leaking = row(scores, "joint", 0.1)
    assert leaking.accuracy > 0.8
    assert leaking.over_true > 0.25
    assert abs(leaking.all_corrected - 0.5) < 0.1  # correcting them takes away what had leaked


def test_a_side_channel_decides_without_the_concepts():
    train, test = labelled(4, irrelevant), labelled(5, irrelevant)
    made = fit_joint(train, 0, 10.0, side=4)
    deleted = np.zeros_like(test.c)
    assert np.mean(made.decision(test.x, deleted) == test.y) > 0.8
    closed = fit_sequential(train, 0)
    assert abs(np.mean(closed.decision(test.x, deleted) == test.y) - 0.5) < 0.08


def test_binary_concepts_are_estimated_as_probabilities():
    made = fit_sequential(labelled(2, irrelevant), 0)
    assert made.binary.tolist() == [False, True]
    estimated = made.estimate(labelled(3, irrelevant).x)
    assert ((estimated[:, 1] >= 0) & (estimated[:, 1] <= 1)).all()
    assert estimated[:, 0].min() < 0


def test_correcting_sets_only_what_was_asked_for():
    estimated, true = np.zeros((2, 3)), np.ones((2, 3))
    assert corrected(estimated, true, [1]).tolist() == [[0, 1, 0], [0, 1, 0]]
    assert not estimated.any()


def test_one_decision_for_all_images_is_refused():
    train = labelled(0, complete)
    with pytest.raises(ValueError, match="found one decision for all images, expected both"):
        fit_joint(train._replace(y=np.ones(400, bool)), 0, 1.0)
