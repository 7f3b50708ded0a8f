"""The studies of the papers, planned as a user without real data would start them: no job runs."""

import re
import subprocess
import sys
from collections import Counter

import pytest
from workflow_runs import command, copy_project, environment, run

from xiqa.plan import work_of

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.ci]


@pytest.fixture(scope="module")
def project(root, tmp_path_factory):
    """A copy without results: nothing of it can be up to date."""
    return copy_project(root, tmp_path_factory.mktemp("papers") / "xiqa")


def jobs(project, paper: str, target: str) -> dict[str, int]:
    """Rules with the number of their jobs."""
    plan = run(project, target, "--configfile", f"config/paper_{paper}.yaml", "--dry-run")
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", plan, re.MULTILINE)}


def test_paper_amanova_2022_is_planned(project):
    planned = jobs(project, "amanova_2022", "all")
    # Maps of four images, and of the rotated one, in 20 shards; docs/how-to/cost.md is made for these numbers.
    assert (planned["train"], planned["upsample_omig"], planned["upsample_gradient"]) == (10, 100, 80)
    assert (planned["read_out"], planned["sample"], planned["total"]) == (26, 26, 296)


@pytest.mark.parametrize(
    ("paper", "trainings", "states"),
    # Trainings: sets x networks x seeds; states: with the randomised ones.
    [("ozer", 2 * 2 * 3, 2 * 2 * 3 * 3), ("brima_2023", 2 * 9, 2 * 9), ("brocki_2022", 1, 1)],
)
def test_papers_with_classifiers_are_planned_on_twins(project, paper, trainings, states):
    planned = jobs(project, paper, "classification")
    assert planned["train_network"] == trainings
    assert planned["write_twin"] == planned["prepare"]
    explained = Counter()
    for rule, n in planned.items():
        if found := re.match(r"explain_(network|randomised)_(\w+)", rule):
            explained[found[2]] += n
    assert max(explained.values()) == states
    if paper == "ozer":  # EfficientNet-B0 has no ReLU: its seeds and states on both sets are not asked
        assert explained["one_pass"] - explained["relu_backward"] == 2 * 3 * 3


def test_a_missing_file_of_weights_stops_before_any_job(project):
    (project / "mine.yaml").write_text("datasets: {ct_contrast_brocki: {weights: mine.pth, networks: [{}]}}\n")
    study = ["classification", "--configfile", "config/paper_brocki_2022.yaml", "mine.yaml", "--dry-run"]
    done = subprocess.run(command(*study), cwd=project, capture_output=True, text=True, env=environment())
    assert done.returncode != 0
    assert re.search(r"Missing input files .*mine\.pth", done.stdout + done.stderr, re.DOTALL)


OWN = """
datasets: {mine: {format: folder, path: images, size: 64,
                  networks: [{architecture: small_resnet}, {architecture: small_vgg}]},
           object_cxr: null, lvot: null, brain_tumor: null, covid_cxr: null, ct_contrast: null, mri_quality: null}
"""


@pytest.mark.parametrize("study", ["", "config/test.yaml", "mine.yaml"])
def test_the_plan_has_as_many_jobs_as_snakemake_would_start(project, study):
    (project / "mine.yaml").write_text(OWN)
    (project / "images").mkdir(exist_ok=True)
    (project / "images/images.csv").write_text("image,label,patient\n")
    target, chains = ("classification", ["images"]) if study == "mine.yaml" else ("all", [])
    output = run(project, target, *(["--configfile", study] if study else []), "--dry-run")
    jobs = int(re.search(r"^total +(\d+)$", output, re.MULTILINE)[1]) - 1  # the target itself does nothing
    sys.path.insert(0, str(project / "workflow/scripts/report"))
    from plan_study import study_of

    config = study_of([str(project / study)] if study else [])
    counted = sum(part.jobs for part in work_of(config, dict.fromkeys(["mine"], 100), chains=chains))
    assert counted == jobs
    if study == "mine.yaml":
        assert "explain_network_smoothgrad" in output
        assert not re.search("explain_network_(rise|score_cam|xrai|lime)", output)
