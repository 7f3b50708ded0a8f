# MLflow: one writer mirrors the results. The database is no output, because Snakemake deletes outputs before a job.
rule track:
    input:
        models=MODELS,
        tables=CDMAM_TABLES,
        figures=CDMAM_FIGURES,
        validity=[f"{CDMAM}/saliency/{family}_validity.csv" for family in FAMILIES],
        classification=[*CLASSIFICATION_TABLES, *CLASSIFICATION_FIGURES, *CLASSIFIERS],
        comparison=COMPARED,
    output:
        runs=f"{RESULTS}/tracking/runs.json",
    log:
        f"{LOGS}/track.log",
    benchmark:
        f"{BENCHMARKS}/track.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
        mlflow_writer=1,
    params:
        code=code("report/track.py", "xiqa.tracking_model"),
        store=f"{RESULTS}/mlflow",
        study={
            "name": study.study,
            "experiment": study.tracking.experiment,
            "log_model": study.tracking.log_model,
            "recorded": bool(RECORDED),
            "code": code(
                "report/track.py",
                "xiqa.cdmam.simulator",
                "xiqa.models.training",
                "xiqa.saliency.omig",
                *(["xiqa.models.model_training"] if DATASETS else []),
            ),
            # Folder names of a clinic may name people: only how many there are is tracked.
            "config": plain(study, "cdmam", "datasets", "results")
            | {"cdmam": plain(cdmam, "recordings"), "recordings": len(RECORDED)},
            "methods": {method: options(method) for method in EXPLAIN.methods},
        },
        datasets=[tracked_dataset(name) for name in DATASETS],
        comparison=COMPARED,
    script:
        "../scripts/report/track.py"
