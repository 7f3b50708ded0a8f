import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiqa.config import Split
from xiqa.datasets.splits import groups_of, patients_needed, reference_images, split_images


def table_of(patients, labels, duplicate_of=None, part=None):
    n = len(patients)
    return pd.DataFrame(
        {
            "image": [f"image-{i}" for i in range(n)],
            "patient": [f"patient-{p}" for p in patients],
            "label": labels,
            "duplicate_of": duplicate_of or [None] * n,
            "part": part or [None] * n,
        }
    )


@st.composite
def tables(draw):
    n = draw(st.integers(60, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = table_of(rng.integers(0, n // 2, n), rng.integers(0, draw(st.integers(2, 3)), n))
    for index in rng.integers(1, n, draw(st.integers(0, 5))):
        table.loc[index, "duplicate_of"] = table.loc[rng.integers(0, index), "image"]
    return table


@settings(max_examples=60)
@given(tables(), st.integers(0, 50), st.sampled_from([0, 3, 5]), st.sampled_from([0, 1]))
def test_no_patient_and_no_duplicate_is_ever_divided(table, seed, folds, gap):
    try:
        divided = split_images(table, Split(folds=folds, gap=gap), seed)
    except ValueError as error:
        assert "too few patients per label" in str(error)  # noqa: PT017
        return
    part = divided.set_index("image")["part"]
    assert list(divided["image"]) == list(table["image"])
    used = part[part != "unused"]
    patients = table.set_index("image")["patient"]
    assert used.groupby(patients[used.index]).nunique().max() == 1
    for image, original in table[["image", "duplicate_of"]].dropna().itertuples(index=False):
        assert part[image] == part[original] or "unused" in (part[image], part[original])


@settings(max_examples=20)
@given(tables(), st.integers(0, 10))
def test_folds_test_every_image_once(table, first):
    folds = 4
    tested = [
        split_images(table, Split(folds=folds, validation=0.1), folds * first + fold).query("part == 'test'")["image"]
        for fold in range(folds)
    ]
    assert sorted(pd.concat(tested)) == sorted(table["image"])


def test_shares_and_labels_are_as_asked():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(200), 3)
    table = table_of(patients, np.repeat(rng.random(200) < 0.2, 3).astype(int))
    divided = split_images(table, Split(validation=0.15, test=0.25), 1)
    shares = divided["part"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.25, abs=0.02)
    assert shares["validation"] == pytest.approx(0.15, abs=0.02)
    positive = table["label"].groupby(divided["part"]).mean()
    assert np.ptp(positive) < 0.03


@settings(max_examples=40)
@given(tables(), st.integers(0, 50), st.integers(3, 6), st.sampled_from([0, 5]))
def test_sizes_give_exactly_so_many_patients_to_each_part(table, seed, test, validation):
    groups = len(set(groups_of(table)))
    test, validation = groups // test, validation and groups // validation
    sizes = {"train": groups - test - validation, "validation": validation, "test": test}
    divided = split_images(table, Split(sizes=sizes), seed)
    found = divided.groupby("part")["group"].nunique()
    assert {part: found.get(part, 0) for part in sizes} == sizes


def test_the_papers_sizes_are_divided_with_even_labels_and_like_patients():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(690), rng.integers(15, 35, 690))
    table = table_of(patients, rng.integers(0, 2, len(patients)))
    divided = split_images(table, Split(sizes={"train": 551, "validation": 69, "test": 70}), 0)
    per_patient = divided.groupby("part").size() / divided.groupby("part")["group"].nunique()
    assert per_patient.max() / per_patient.min() < 1.05
    assert table["label"].groupby(divided["part"]).mean().between(0.49, 0.51).all()


def test_sizes_that_are_not_those_of_the_set_say_what_was_found():
    table = table_of(np.repeat(np.arange(20), 2), [0, 1] * 20, duplicate_of=[None] * 39 + ["image-0"])
    message = r"found 19 patients in the set .* expected 12 \+ 0 \+ 8 = 20 for train, validation, test"
    with pytest.raises(ValueError, match=message):
        split_images(table, Split(sizes={"train": 12, "test": 8}), 0)
    with pytest.raises(ValueError, match="found 40 images in the set"):
        split_images(table, Split(by="image", sizes={"train": 12, "test": 8}), 0)


@pytest.mark.parametrize("shares", [{}, {"sizes": {"train": 50, "validation": 10, "test": 20}}])
def test_trainings_share_the_split_of_its_own_seed(shares):
    table = table_of(np.arange(80), np.arange(80) % 2)
    one, other = (split_images(table, Split(seed=5, **shares), seed)["part"] for seed in (0, 1))
    assert (one == other).all()
    assert (one == split_images(table, Split(**shares), 5)["part"]).all()
    assert (one != split_images(table, Split(seed=6, **shares), 0)["part"]).any()


def test_a_seed_repeats_and_another_differs():
    table = table_of(np.arange(80), np.arange(80) % 2)
    first, again, other = (split_images(table, Split(), seed)["part"] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_split_does_not_depend_on_the_pseudonyms():
    table = table_of(np.arange(80), np.arange(80) % 2)
    renamed = table.assign(patient=[f"{i * 7919 % 80}" for i in range(80)])
    assert (split_images(table, Split(), 3)["part"] == split_images(renamed, Split(), 3)["part"]).all()


def test_duplicates_join_their_patients_in_chains():
    table = table_of([0, 1, 2, 3], [0, 1, 0, 1], duplicate_of=[None, "image-0", "image-1", None])
    assert list(groups_of(table)) == [0, 0, 0, 1]


def test_a_gap_keeps_the_neighbours_of_the_test_out_of_training():
    blocks = np.repeat(np.arange(60), 5)
    table = table_of(blocks, (blocks >= 30).astype(int))
    divided = split_images(table, Split(folds=5, gap=1), 2)
    test = divided.loc[divided["part"] == "test", "group"].unique()
    learnt = divided.loc[divided["part"].isin(["train", "validation"]), "group"].unique()
    assert len(test) == 12
    assert np.abs(np.subtract.outer(test, learnt)).min() == 2
    assert set(table.loc[divided["part"] == "test", "label"]) == {0, 1}


def test_dose_response_images_are_only_tested():
    table = table_of(np.arange(60), np.arange(60) % 2, part=[None] * 40 + ["severity"] * 20)
    divided = split_images(table, Split(), 0)
    assert (divided["part"][40:] == "severity").all()
    assert not (divided["part"][:40] == "severity").any()
    table.loc[50, "patient"] = "patient-1"
    with pytest.raises(ValueError, match="dose-response part also have images in the main parts"):
        split_images(table, Split(), 0)


def test_an_official_split_is_kept_unless_it_divides_a_patient():
    official = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    table = table_of(np.arange(8), [0, 1] * 4, part=official)
    assert list(split_images(table, Split(official=True), 0)["part"]) == official
    table.loc[7, "patient"] = "patient-0"
    with pytest.raises(ValueError, match="two parts"):
        split_images(table, Split(official=True), 0)
    with pytest.raises(ValueError, match=r"split\.official: found the parts \['None'\]"):
        split_images(table_of(np.arange(8), [0, 1] * 4), Split(official=True), 0)


def test_a_label_that_training_lacks_is_refused():
    table = table_of(np.arange(21), [0] * 10 + [1] * 10 + [2], part=[None] * 20 + ["severity"])
    with pytest.raises(ValueError, match="too few patients per label"):
        split_images(table, Split(), 0)


def test_four_patients_with_the_default_split_are_refused_with_the_number_that_is_needed():
    table = table_of([0, 1, 2, 3], [0, 1, 0, 1]).assign(label_name=["good", "motion"] * 2)
    message = (
        r"found 4 patients \(good 2, motion 2\), and the (validation|test) part has none of .*expected 7 or more of "
        r"each label for these shares of train, validation, test; add patients"
    )
    for seed in range(5):
        with pytest.raises(ValueError, match=message):
            split_images(table, Split(), seed)


@pytest.mark.parametrize(
    ("split", "needed"),
    [
        (Split(), 7),
        (Split(validation=0), 4),
        (Split(validation=0, test=0.5), 2),
        (Split(validation=0.2, folds=3), 5),
        (Split(validation=0.1, test=0.1, by="image"), 10),
    ],
)
@pytest.mark.parametrize("others", [1, 6])
def test_with_the_patients_that_are_needed_every_part_has_every_label_whatever_the_seed(split, needed, others):
    assert patients_needed(split) == needed
    label = np.repeat([0, 1, 2], [needed, others * needed, needed])
    table = table_of(np.arange(len(label)), label)
    for seed in range(6):
        divided = split_images(table, split, seed)
        for part in ("train", "test", *(["validation"] if split.validation else [])):
            assert set(label[divided["part"] == part]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("labels", "split", "part", "message"),
    [
        # One patient has a label: it can be in one part only.
        ([0] * 20 + [1] * 20 + [2], Split(), None, "none of 2; expected 7"),
        # Twelve patients with both labels would do, one patient with all images of a label does not.
        ([0] * 30 + [1], Split(validation=0), None, "the (test|train) part has none of 1"),
        ([0, 1] * 4, Split(sizes={"train": 6, "validation": 1, "test": 1}), None, "expected at least 3 of each label"),
        (
            [0, 1] * 4,
            Split(official=True),
            ["train"] * 6 + ["test", "train"],
            "the test part has none of 1; set split.off",
        ),
    ],
)
def test_a_label_that_any_part_lacks_is_refused(labels, split, part, message):
    with pytest.raises(ValueError, match=f"too few patients per label: found {len(labels)} patients .*{message}"):
        split_images(table_of(np.arange(len(labels)), labels, part=part), split, 0)


def test_a_part_that_nobody_asked_for_may_be_missing():
    table = table_of(np.arange(12), np.arange(12) % 2, part=["train", "train", "train", "train", "test", "test"] * 2)
    assert set(split_images(table, Split(official=True), 0)["part"]) == {"train", "test"}
    assert set(split_images(table, Split(validation=0), 0)["part"]) == {"train", "test"}


def test_a_split_by_image_divides_patients():
    table = table_of(np.repeat(np.arange(20), 5), np.repeat(np.arange(20) % 2, 5))
    part = split_images(table, Split(by="image"), 0)["part"]
    assert part.groupby(table["patient"]).nunique().max() > 1


def test_references_come_from_all_classes_and_patients_not_from_the_first_rows():
    # As real sets have it: class after class, each patient's images together.
    label = np.repeat([0, 1, 2], [3000, 900, 20])
    patients = np.arange(3920) // 4
    divided = split_images(table_of(patients, label), Split(), 0)
    rows = reference_images(label, divided, 64, 0)
    assert len(set(rows)) == 64
    assert (divided["part"][rows] == "train").all()
    shares = np.bincount(label[rows]) - 64 * np.bincount(label) / len(label)
    assert (np.abs(shares) < 1).all()
    assert len(set(patients[rows])) == 64, "no patient twice while others are left"
    assert np.ptp(rows[label[rows] == 0]) > 2500
    assert (reference_images(label, divided, 64, 0) == rows).all()
    assert set(reference_images(label, divided, 64, 1)) != set(rows)
    # Rare classes are drawn from too, and a small training part is taken as a whole.
    assert set(label[reference_images(label, divided, 3, 0)]) == {0, 1, 2}
    assert (reference_images(label, divided, 10**6, 0) == np.flatnonzero(divided["part"] == "train")).all()


def test_references_draw_each_patient_alike_whatever_their_images():
    patients = np.repeat(np.arange(40), np.where(np.arange(40) < 20, 1, 9))
    divided = pd.DataFrame({"part": "train", "group": patients})
    label = np.zeros(len(patients), int)
    found = [patients[reference_images(label, divided, 10, seed)] for seed in range(300)]
    assert np.mean([(drawn < 20).mean() for drawn in found]) == pytest.approx(0.5, abs=0.03)
