# Figures and findings of the classification studies.
rule draw_classifier:
    input:
        tables=expand(f"{DATASET}/tables/{{table}}.csv", table=SCORE_TABLES, allow_missing=True),
        histories=lambda wildcards: expand(
            f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/{{file}}",
            **wildcards,
            seed=DATASETS[wildcards.dataset].seeds,
            file=["history.csv", "model.json"],
        ),
        embedding=lambda wildcards: expand(
            f"{DATASET}/embeddings/{{architecture}}/trained/seed-{{seed}}{{kind}}.csv",
            **wildcards,
            seed=DATASETS[wildcards.dataset].seeds[0],
            kind=["", "-silhouette"],
        ),
    output:
        **{name: picture(name, f"{DATASET}/figures/{{architecture}}") for name in NETWORK_FIGURES},
    log:
        f"{LOGS}/draw_classifier/{{dataset}}/{{architecture}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_classifier/{{dataset}}/{{architecture}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("draw_classifier.py"),
        seeds=lambda wildcards: list(DATASETS[wildcards.dataset].seeds),
    script:
        "../scripts/draw_classifier.py"


rule draw_severity:
    input:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        scores=f"{DATASET}/tables/auc_by_severity.csv",
    output:
        **{name: picture(name) for name in SEVERITY_FIGURES},
    log:
        f"{LOGS}/draw_severity/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_severity/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("draw_severity.py"),
    script:
        "../scripts/draw_severity.py"


rule summarise_classification:
    input:
        **{
            name: expand(f"{RESULTS}/{{dataset}}/tables/{name}.csv", dataset=CLASSIFICATIONS)
            for name in ("scores", "comparison", "auc_by_severity", *SALIENCY_TABLES[:1])
        },
    output:
        **OVERVIEW,
        overview=picture("overview", f"{CLASSIFICATION}/figures"),
        page=report(f"{CLASSIFICATION}/findings.html", caption="../report/findings.rst", category="0 Findings"),
    log:
        f"{LOGS}/summarise_classification.log",
    benchmark:
        f"{BENCHMARKS}/summarise_classification.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("summarise_classification.py"),
        datasets=CLASSIFICATIONS,
    script:
        "../scripts/summarise_classification.py"
