# Regressions and ensembles: scores beside shortcuts, where the maps lie, figures and findings.
rule score_regression:
    input:
        predictions=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/predictions/{NETWORK.format(**n)}.parquet"
            for n in networks(wildcards.dataset)
        ],
        split=lambda wildcards: f"{DATASET}/splits/seed-{DATASETS[wildcards.dataset].seeds[0]}.csv",
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
    output:
        scores=f"{DATASET}/tables/scores.csv",
        comparison=f"{DATASET}/tables/comparison.csv",
        predictions=f"{DATASET}/tables/predictions.csv",
    log:
        f"{LOGS}/score_regression/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/score_regression/{{dataset}}.jsonl"
    wildcard_constraints:
        dataset="|".join(REGRESSIONS) or "none",
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("score_regression.py"),
        models=lambda wildcards: networks(wildcards.dataset),
    script:
        "../scripts/score_regression.py"


rule share_structures:
    input:
        masks=f"{DATASET}/prepared/masks.npy",
        structures=f"{DATASET}/prepared/structures.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=lambda wildcards: f"{DATASET}/explained/seed-{first_seed(wildcards)}.parquet",
        maps=lambda wildcards: [told["path"] for told in structure_maps(wildcards.dataset)],
    output:
        shares=f"{DATASET}/tables/structure_share.csv",
        summary=f"{DATASET}/tables/structure_share_summary.csv",
    log:
        f"{LOGS}/share_structures/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/share_structures/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("share_structures.py"),
        maps=lambda wildcards: structure_maps(wildcards.dataset),
    script:
        "../scripts/share_structures.py"


# What a regression and an ensemble draw depends on the data set: each has its own rule.
for name in REGRESSIONS:

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
            maps=shown_members(name),
        script:
            "../scripts/report_regression.py"


for name in [name for name, dataset in DATASETS.items() if dataset.members > 1 and SALIENCY.methods]:
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
            dataset=name,
        script:
            "../scripts/average_members.py"
