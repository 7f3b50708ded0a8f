"""Mirror the study's results into MLflow: the only stage that writes there."""

from pathlib import Path

from xiqa.files import write_json
from xiqa.logs import log_to
from xiqa.provenance import git_commit
from xiqa.tracking import StudyRecord, mirror
from xiqa.tracking_cdmam import cdmam_runs
from xiqa.tracking_classification import classification_runs, comparison_run


def track(
    study: dict, cdmam: dict, datasets: list[dict], comparison: list[str], path_to_store: str, path_to_runs: str
) -> None:
    """Describe the runs that the results stand for, and let the MLflow store hold exactly them."""
    data = "mixed" if study["recorded"] else "simulated"
    runs = cdmam_runs(study, **cdmam, data=data)
    for dataset in datasets:
        runs += classification_runs(**dataset)
    if comparison:
        kinds = {run.data for run in runs if run.key.startswith("datasets/")}
        runs.append(comparison_run(comparison, kinds.pop() if len(kinds) == 1 else "mixed"))
    record = StudyRecord(study["name"], study["experiment"], data, study["code"], git_commit(), runs)
    write_json(path_to_runs, mirror(record, path_to_store))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "track"):
        given = snakemake.input
        track(
            study=snakemake.params.study,
            cdmam={
                "folders_of_members": [Path(path).parent for path in given.models],
                "tables": list(given.tables),
                "figures": list(given.figures),
                "validity": list(given.validity),
            },
            datasets=snakemake.params.datasets,
            comparison=snakemake.params.comparison,
            path_to_store=snakemake.params.store,
            path_to_runs=snakemake.output.runs,
        )
