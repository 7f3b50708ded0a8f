# xiqa: from raw images to trained networks, saliency maps, scores, tables, figures and a report.
import subprocess
import time

from snakemake.utils import min_version

min_version("9.10")

STARTED_S = time.monotonic()


# Beside this file, wherever Snakemake is started: the project may be read-only.
configfile: f"{workflow.basedir}/config/config.yaml"


report: "workflow/report/workflow.rst"


# How many GPUs this machine has says nothing of a cluster, whose jobs each ask for their own: the limit of
# profiles/default counts here only.
resource_scopes:
    gpu="local",


include: "workflow/rules/common.smk"
include: "workflow/rules/plan_cdmam.smk"
include: "workflow/rules/plan_generalise.smk"
include: "workflow/rules/plan_datasets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/concepts.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/generalise.smk"
include: "workflow/rules/tracking.smk"


rule all:
    default_target: True
    input:
        cdmam=[*CDMAM_TABLES, *CDMAM_FIGURES, f"{CDMAM}/findings.md"],
        classification=[*CLASSIFICATION_TABLES, *CLASSIFICATION_FIGURES],
        runs=f"{RESULTS}/tracking/runs.json",


# Only the classification studies, without their MLflow runs: `snakemake --cores all classification`.
rule classification:
    input:
        CLASSIFICATION_TABLES,
        CLASSIFICATION_FIGURES,


onstart:
    # While the rate of job starts is limited, Snakemake plans all waiting jobs again every second, once for
    # each job that ever finished: half a core after some hundred jobs. Jobs on this machine need no limit.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
        install_warm_start(jobs=len(workflow.dag))
    # Own images: what the study costs is said before its first job; `make plan STUDY=...` says it of any study.
    if OWN_IMAGES and not any(os.path.exists(f"{BENCHMARKS}/prepare/{name}.jsonl") for name in DATASETS):
        subprocess.run(
            [
                sys.executable,
                f"{PROJECT}/workflow/scripts/report/plan_study.py",
                "-",
                "--cores",
                str(workflow.cores or 1),
            ],
            input=study.model_dump_json(),
            text=True,
            check=False,
        )


onsuccess:
    seconds = f"{time.monotonic() - STARTED_S:.0f}"
    subprocess.run(
        [sys.executable, f"{PROJECT}/workflow/scripts/report/say_where.py", RESULTS, seconds], check=False
    )
