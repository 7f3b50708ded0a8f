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
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=3000,
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=code("train.py"),
        training={
            "network": plain(cdmam.network),
            "training": plain(cdmam.training, "members"),
            "size": cdmam.sampling.size,
            "seed": study.seed,
            "device": study.compute.device,
        },
    script:
        "../scripts/train.py"


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
        code=code("predict.py"),
    script:
        "../scripts/predict.py"


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
        code=code("score_predictions.py"),
        simulations={setting: simulation(setting) for setting in cdmam.scenarios},
        human=cdmam.readout.human,
    script:
        "../scripts/score_predictions.py"
