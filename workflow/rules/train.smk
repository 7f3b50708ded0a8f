# Networks: the deep ensemble of the contrast-detail curve, and one network per data set, architecture and seed.
# The deep ensemble: one training job per member, then predictions and their scores.
rule train:
    input:
        curves=TRAINING_CURVES[0],
        images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=TRAINING_SETTINGS),
        tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=TRAINING_SETTINGS),
    output:
        weights=f"{CDMAM}/models/member-{{member}}/weights.safetensors",
        history=f"{CDMAM}/models/member-{{member}}/history.csv",
        model=f"{CDMAM}/models/member-{{member}}/model.json",
    log:
        f"{LOGS}/train/member-{{member}}.log",
    benchmark:
        f"{BENCHMARKS}/train/member-{{member}}.jsonl"
    priority: LONGEST_CHAIN
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=3000,
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=code("train/train.py"),
        training={
            "network": plain(cdmam.network),
            "training": plain(cdmam.training, "members"),
            "size": cdmam.sampling.size,
            "seed": study.seed,
            "device": study.compute.device,
        },
    script:
        "../scripts/train/train.py"


rule predict:
    input:
        models=MODELS,
        curves=f"{CDMAM}/tables/cdc.csv",
        images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=TEST_SETS),
        tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=TEST_SETS),
        validation_images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=VALIDATION_SETTINGS),
        validation_tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=VALIDATION_SETTINGS),
    output:
        predictions=f"{CDMAM}/tables/predictions.csv",
        calibration=f"{CDMAM}/tables/uncertainty_calibration.csv",
    log:
        f"{LOGS}/predict.log",
    benchmark:
        f"{BENCHMARKS}/predict.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=4000,
    params:
        code=code("train/predict.py"),
    script:
        "../scripts/train/predict.py"


rule score_predictions:
    input:
        predictions=f"{CDMAM}/tables/predictions.csv",
        curves=f"{CDMAM}/tables/cdc.csv",
        training_images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=TRAINING_SETTINGS),
        training_tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=TRAINING_SETTINGS),
        test_images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=TEST_SETS),
        test_tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=TEST_SETS),
        graded=expand(f"{CDMAM}/readout/{{setting}}/graded.csv", setting=[*cdmam.scenarios]),
    output:
        scores=f"{CDMAM}/tables/prediction_scores.csv",
        by_diameter=f"{CDMAM}/tables/prediction_scores_by_diameter.csv",
        dependence=f"{CDMAM}/tables/uncertainty_dependence.csv",
        curve_methods=f"{CDMAM}/tables/curve_methods.csv",
    log:
        f"{LOGS}/score_predictions.log",
    benchmark:
        f"{BENCHMARKS}/score_predictions.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=3000,
    params:
        code=code("score/score_predictions.py"),
        simulations={setting: simulation(setting) for setting in cdmam.scenarios},
        human=cdmam.readout.human,
    script:
        "../scripts/score/score_predictions.py"


# Classifiers: train one network per data set, architecture and seed; randomise, predict, embed and score them.
rule train_network:
    input:
        images=f"{DATASET}/prepared/images.npy",
        originals=f"{DATASET}/prepared/originals.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
        start=weights_file,
    output:
        weights=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/weights.safetensors",
        history=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/history.csv",
        model=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/model.json",
    log:
        f"{LOGS}/train_network/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train_network/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=3000,
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=code("train/train_network.py"),
        training=lambda wildcards: {
            "network": plain(network(wildcards), "states"),
            "training": plain(DATASETS[wildcards.dataset].training),
            "target_units": DATASETS[wildcards.dataset].target_units,
            "sampling": sampling_of(wildcards.dataset, "size", "samplings"),
            "device": study.compute.device,
        },
    script:
        "../scripts/train/train_network.py"


rule randomise_network:
    input:
        trained=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/weights.safetensors",
        start=weights_file,
    output:
        weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
        model=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/model.json",
    log:
        f"{LOGS}/randomise_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/randomise_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.jsonl"
    wildcard_constraints:
        weights="semi_random|fully_random",
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("train/randomise_network.py"),
        network=lambda wildcards: plain(network(wildcards), "states"),
    script:
        "../scripts/train/randomise_network.py"


rule predict_network:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
        weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
    output:
        predictions=f"{DATASET}/predictions/{{architecture}}/{{weights}}/seed-{{seed}}.parquet",
    log:
        f"{LOGS}/predict_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/predict_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("train/predict_network.py"),
    script:
        "../scripts/train/predict_network.py"


rule embed_network:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
        weights=f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/weights.safetensors",
    output:
        points=f"{DATASET}/embeddings/{{architecture}}/trained/seed-{{seed}}.csv",
        scores=f"{DATASET}/embeddings/{{architecture}}/trained/seed-{{seed}}-silhouette.csv",
    log:
        f"{LOGS}/embed_network/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/embed_network/{{dataset}}/{{architecture}}/trained/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("train/embed_network.py"),
        network=lambda wildcards: plain(network(wildcards), "states"),
    script:
        "../scripts/train/embed_network.py"


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
        code=code("score/score_classifiers.py"),
        models=lambda wildcards: networks(wildcards.dataset),
        seeds=lambda wildcards: list(DATASETS[wildcards.dataset].seeds),
        members=lambda wildcards: DATASETS[wildcards.dataset].members,
        bright_above=bright_above,
    script:
        "../scripts/score/score_classifiers.py"
