"""Cascading randomisation, the choice of explained images, and the body in an image."""

import numpy as np
import pandas as pd
import torch

from xiqa.datasets.body import body_mask
from xiqa.datasets.splits import explained_images
from xiqa.models.cascade import blocks, cascade
from xiqa.models.zoo import build


def test_blocks_are_drawn_anew_one_after_the_other_from_the_output():
    net = build("small_resnet", channels=1, outputs=2, seed=3).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    names = [name for name, _ in blocks(net)]
    drawn = []
    for name, changed in cascade(net, seed=5):
        drawn.append(name)
        for block, module in blocks(changed):
            weights = [part for part in module.parameters() if part.ndim > 1]
            same = [torch.equal(part, dict(net.get_submodule(block).named_parameters())[key])
                    for key, part in module.named_parameters() if part.ndim > 1]  # fmt: skip
            assert all(same) != (block in drawn and bool(weights))
    assert drawn == names[::-1]
    covered = {key for name in names for key in before if key.startswith(f"{name}.")}
    assert covered == set(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def table_of(labels, masked, severity=None):
    n = len(labels)
    return pd.DataFrame({
        "image": [f"i{k}" for k in range(n)], "label": labels, "has_mask": masked,
        "severity": np.full(n, np.nan) if severity is None else severity,
    })  # fmt: skip


def test_explained_images_are_shared_by_the_classes_and_those_with_a_mask_come_first():
    labels, masked = np.repeat([0, 1], 40), np.tile([True, False], 40)
    table = table_of(labels, masked)
    part = np.where(np.arange(80) % 4 < 2, "test", "train").astype(object)
    chosen = explained_images(table, part, images=24, costly_images=6, masking_images=2, severity_images=5)
    assert chosen["row"].is_monotonic_increasing
    assert chosen["row"].is_unique
    assert set(part[chosen["row"]]) == {"test"}
    assert np.bincount(labels[chosen["row"]]).tolist() == [12, 12]
    # Ten of twenty test images of each class have a mask: all are taken, and two without.
    assert masked[chosen["row"]].sum() == 20
    costly = chosen[chosen["costly"]]
    assert np.bincount(labels[costly["row"]]).tolist() == [3, 3]
    assert masked[costly["row"]].all()
    assert costly["masking"].sum() == chosen["masking"].sum() == 2


def test_each_severity_has_its_images_and_they_are_not_costly():
    severity = np.where(np.arange(60) < 30, np.nan, np.repeat([0.1, 1.0], 30))
    part = np.where(np.arange(60) < 30, "test", "severity").astype(object)
    chosen = explained_images(
        table_of(np.arange(60) % 2, np.ones(60, bool), severity),
        part,
        images=10,
        costly_images=4,
        masking_images=2,
        severity_images=7,
    )
    graded = chosen[chosen["part"] == "severity"]
    assert (severity[graded["row"]] == 1.0).sum() == 7
    assert not graded["costly"].any()
    assert chosen["costly"].sum() == 4


def test_the_dose_response_has_no_images_without_a_dose():
    severity, defect = np.repeat([0.1, 1.0], 30), np.arange(60) % 2 == 1
    table = table_of(defect.astype(int), np.ones(60, bool), severity).assign(has_defect=defect)
    part = np.array(["test"] * 10 + ["severity"] * 50, object)
    chosen = explained_images(table, part, images=2, costly_images=2, masking_images=2, severity_images=7)
    graded = chosen.query("part == 'severity'")["row"]
    # Healthy images carry the level and the mask of an organ as well.
    assert defect[graded].all()
    assert np.bincount((severity[graded] == 1.0).astype(int)).tolist() == [7, 7]


def test_fewer_images_than_asked_for_are_all_taken():
    chosen = explained_images(
        table_of(np.array([0, 0, 1]), np.zeros(3, bool)), np.full(3, "test", object),
        images=96, costly_images=16, masking_images=16, severity_images=0,
    )  # fmt: skip
    assert chosen["row"].tolist() == [0, 1, 2]
    assert chosen["costly"].all()


def test_the_body_is_the_largest_bright_region_with_its_holes():
    rows, columns = np.mgrid[:60, :80]
    head = (rows - 30) ** 2 / 20**2 + (columns - 40) ** 2 / 30**2 < 1
    image = np.where(head, 0.5, 0.02)
    image[25:35, 35:45] = 0.02  # a dark hole in it
    image[2:6, 2:6] = 0.9  # a label in the corner
    found = body_mask(image + np.random.default_rng(0).normal(0, 0.01, image.shape))
    assert np.mean(found != head) < 0.05  # a rim of one pixel
    assert not found[:8, :8].any()
    assert body_mask(np.zeros((4, 5))).all()
