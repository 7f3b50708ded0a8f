# Classifiers: train one network per data set, architecture and seed; randomise, predict, embed and score them.
rule train_classifier:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
        start=weights_file,
    output:
        weights=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/weights.safetensors",
        history=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/history.csv",
        model=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/model.json",
    log:
        f"{LOGS}/train_classifier/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train_classifier/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=3000,
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=code("train_classifier.py"),
        training=lambda wildcards: {
            "network": plain(network(wildcards), "states"),
            "training": plain(DATASETS[wildcards.dataset].training),
            "target_units": DATASETS[wildcards.dataset].target_units,
            "device": study.compute.device,
        },
    script:
        "../scripts/train_classifier.py"


rule randomise_classifier:
    input:
        trained=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/weights.safetensors",
        start=weights_file,
    output:
        weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
        model=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/model.json",
    log:
        f"{LOGS}/randomise_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/randomise_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.jsonl"
    wildcard_constraints:
        weights="semi_random|fully_random",
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("randomise_classifier.py"),
        network=lambda wildcards: plain(network(wildcards), "states"),
    script:
        "../scripts/randomise_classifier.py"


rule predict_classifier:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
        weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
    output:
        predictions=f"{DATASET}/predictions/{{architecture}}/{{weights}}/seed-{{seed}}.parquet",
    log:
        f"{LOGS}/predict_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/predict_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("predict_classifier.py"),
    script:
        "../scripts/predict_classifier.py"


rule embed_classifier:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
        weights=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/weights.safetensors",
    output:
        points=f"{DATASET}/embeddings/{{architecture}}/trained/seed-{{seed}}.csv",
        scores=f"{DATASET}/embeddings/{{architecture}}/trained/seed-{{seed}}-silhouette.csv",
    log:
        f"{LOGS}/embed_classifier/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/embed_classifier/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("embed_classifier.py"),
        network=lambda wildcards: plain(network(wildcards), "states"),
    script:
        "../scripts/embed_classifier.py"


rule score_classifiers:
    input:
        predictions=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/predictions/{NETWORK.format(**n)}.parquet"
            for n in networks(wildcards.dataset)
        ],
        splits=lambda wildcards: expand(
            f"{RESULTS}/{wildcards.dataset}/splits/seed-{{seed}}.csv", seed=DATASETS[wildcards.dataset].seeds
        ),
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
    output:
        **{name: f"{DATASET}/tables/{name}.csv" for name in SCORE_TABLES},
    log:
        f"{LOGS}/score_classifiers/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/score_classifiers/{{dataset}}.jsonl"
    wildcard_constraints:
        dataset="|".join(CLASSIFICATIONS) or "none",
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("score_classifiers.py"),
        models=lambda wildcards: networks(wildcards.dataset),
        seeds=lambda wildcards: list(DATASETS[wildcards.dataset].seeds),
        members=lambda wildcards: DATASETS[wildcards.dataset].members,
        bright_above=bright_above,
    script:
        "../scripts/score_classifiers.py"
