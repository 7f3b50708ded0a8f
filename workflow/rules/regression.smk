# Regressions: scores of networks and ensembles beside shortcuts, where their maps lie, figures and findings.
for name in REGRESSIONS:

    rule:
        name:
            f"score_regression_{name}"
        input:
            predictions=[f"{RESULTS}/{name}/predictions/{NETWORK.format(**n)}.parquet" for n in networks(name)],
            split=f"{RESULTS}/{name}/splits/seed-{DATASETS[name].seeds[0]}.csv",
            images=f"{RESULTS}/{name}/prepared/images.npy",
            table=f"{RESULTS}/{name}/prepared/table.parquet",
        output:
            scores=f"{RESULTS}/{name}/tables/scores.csv",
            comparison=f"{RESULTS}/{name}/tables/comparison.csv",
            predictions=f"{RESULTS}/{name}/tables/predictions.csv",
        log:
            f"{LOGS}/score_regression/{name}.log",
        benchmark:
            f"{BENCHMARKS}/score_regression/{name}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=1000,
        params:
            code=code("score_regression.py"),
            models=networks(name),
            dataset=name,
        script:
            "../scripts/score_regression.py"

    rule:
        name:
            f"report_regression_{name}"
        input:
            scores=f"{RESULTS}/{name}/tables/scores.csv",
            comparison=f"{RESULTS}/{name}/tables/comparison.csv",
            predictions=f"{RESULTS}/{name}/tables/predictions.csv",
            images=f"{RESULTS}/{name}/prepared/images.npy",
            masks=f"{RESULTS}/{name}/prepared/masks.npy",
            table=f"{RESULTS}/{name}/prepared/table.parquet",
            chosen=f"{RESULTS}/{name}/explained/seed-{DATASETS[name].seeds[0]}.parquet" if SALIENCY.methods else [],
            shares=f"{RESULTS}/{name}/tables/structure_share_summary.csv" if SALIENCY.methods else [],
            maps=list(shown_members(name).values()),
            networks=[
                f"{RESULTS}/{name}/models/{DATASETS[name].networks[0].architecture}/trained/seed-{seed}/history.csv"
                for seed in DATASETS[name].seeds
            ],
        output:
            **regression_figures(name),
            page=report(f"{RESULTS}/{name}/findings.html", caption="../report/findings.rst", category="0 Findings"),
            findings=f"{RESULTS}/{name}/findings.md",
        log:
            f"{LOGS}/report_regression/{name}.log",
        benchmark:
            f"{BENCHMARKS}/report_regression/{name}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=1000,
        params:
            code=code("report_regression.py"),
            dataset=name,
            folders={
                f"seed {seed}": f"{RESULTS}/{name}/models/{DATASETS[name].networks[0].architecture}/trained/seed-{seed}"
                for seed in DATASETS[name].seeds
            },
            shares=f"{RESULTS}/{name}/tables/structure_share_summary.csv" if SALIENCY.methods else None,
            maps=shown_members(name),
        script:
            "../scripts/report_regression.py"


for name in DATASETS if SALIENCY.methods else ():

    rule:
        name:
            f"share_structures_{name}"
        input:
            masks=f"{RESULTS}/{name}/prepared/masks.npy",
            table=f"{RESULTS}/{name}/prepared/table.parquet",
            chosen=f"{RESULTS}/{name}/explained/seed-{DATASETS[name].seeds[0]}.parquet",
            maps=[told["path"] for told in structure_maps(name)],
        output:
            shares=f"{RESULTS}/{name}/tables/structure_share.csv",
            summary=f"{RESULTS}/{name}/tables/structure_share_summary.csv",
        log:
            f"{LOGS}/share_structures/{name}.log",
        benchmark:
            f"{BENCHMARKS}/share_structures/{name}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=1000,
        params:
            code=code("share_structures.py"),
            maps=structure_maps(name),
            dataset=name,
        script:
            "../scripts/share_structures.py"

    if DATASETS[name].members > 1:
        MEMBERS = maps_of_members(name, DATASETS[name].networks[0].architecture)
        FOLDER = ENSEMBLE_MAPS.format(dataset=name, architecture=DATASETS[name].networks[0].architecture)

        rule:
            name:
                f"average_members_{name}"
            input:
                [path for paths in MEMBERS.values() for path in paths],
            output:
                means=[f"{FOLDER}/{method}.npy" for method in MEMBERS],
                spreads=[f"{FOLDER}/spread/{method}.npy" for method in MEMBERS],
            log:
                f"{LOGS}/average_members/{name}.log",
            benchmark:
                f"{BENCHMARKS}/average_members/{name}.jsonl"
            conda:
                "../../envs/xiqa.yaml"
            resources:
                mem_mb=1000,
            params:
                code=code("average_members.py"),
                maps=MEMBERS,
                folder=FOLDER,
                dataset=name,
            script:
                "../scripts/average_members.py"
