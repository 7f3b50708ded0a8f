# Data: images are simulated or read, prepared, divided, read out into curves, and sampled for the network.
# CDMAM images: simulate or read them, read them out into contrast-detail curves, sample them for the network.
rule read_out:
    output:
        detections=f"{CDMAM}/readout/{{setting}}/detections.npy",
        graded=f"{CDMAM}/readout/{{setting}}/graded.csv",
        images=f"{CDMAM}/readout/{{setting}}/images.csv",
    log:
        f"{LOGS}/read_out/{{setting}}.log",
    benchmark:
        f"{BENCHMARKS}/read_out/{{setting}}.jsonl"
    wildcard_constraints:
        setting="|".join(SIMULATED),
    priority: LONGEST_CHAIN
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("data/read_out.py"),
        simulation=lambda wildcards: simulation(wildcards.setting),
    script:
        "../scripts/data/read_out.py"


rule sample:
    output:
        images=f"{CDMAM}/samples/{{setting}}/images.npy",
        indices=f"{CDMAM}/samples/{{setting}}/indices.npy",
        table=f"{CDMAM}/samples/{{setting}}/table.parquet",
    log:
        f"{LOGS}/sample/{{setting}}.log",
    benchmark:
        f"{BENCHMARKS}/sample/{{setting}}.jsonl"
    wildcard_constraints:
        setting="|".join(SIMULATED),
    priority: LONGEST_CHAIN
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=3000,
    params:
        code=code("data/sample.py"),
        simulation=lambda wildcards: simulation(wildcards.setting),
        plan=lambda wildcards: sampling_plan(wildcards.setting),
        sampling=plain(cdmam.sampling),
    script:
        "../scripts/data/sample.py"


if RECORDED:

    rule read_recordings:
        input:
            lambda wildcards: recorded_images(wildcards.setting),
        output:
            detections=f"{CDMAM}/readout/{{setting}}/detections.npy",
            graded=f"{CDMAM}/readout/{{setting}}/graded.csv",
            images=f"{CDMAM}/readout/{{setting}}/images.csv",
        log:
            f"{LOGS}/read_recordings/{{setting}}.log",
        benchmark:
            f"{BENCHMARKS}/read_recordings/{{setting}}.jsonl"
        wildcard_constraints:
            setting="|".join(RECORDED),
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=2000,
        params:
            code=code("data/read_recordings.py"),
        script:
            "../scripts/data/read_recordings.py"

    rule sample_recordings:
        input:
            lambda wildcards: recorded_images(wildcards.setting),
        output:
            images=f"{CDMAM}/samples/{{setting}}/images.npy",
            indices=f"{CDMAM}/samples/{{setting}}/indices.npy",
            table=f"{CDMAM}/samples/{{setting}}/table.parquet",
        log:
            f"{LOGS}/sample_recordings/{{setting}}.log",
        benchmark:
            f"{BENCHMARKS}/sample_recordings/{{setting}}.jsonl"
        wildcard_constraints:
            setting="|".join(RECORDED),
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=3000,
        params:
            code=code("data/sample_recordings.py"),
            sampling=lambda wildcards: {
                **plain(cdmam.sampling),
                "seed": study.seed,
                "training_samplings": images_recorded(wildcards.setting),
                **OWN_LABELS,
            },
            split=lambda wildcards: recording_part(wildcards.setting),
        script:
            "../scripts/data/sample_recordings.py"


TRAINING_CURVES = [f"{CDMAM}/curves/training.csv", f"{CDMAM}/curves/training_variation.csv"]


# Training reads the curves of its own settings: another test setting retrains nothing.
rule fit_training_curves:
    input:
        detections=expand(f"{CDMAM}/readout/{{setting}}/detections.npy", setting=TRAINING_SETTINGS),
        graded=expand(f"{CDMAM}/readout/{{setting}}/graded.csv", setting=TRAINING_SETTINGS),
        fitted=[],
    output:
        curves=TRAINING_CURVES[0],
        variation=TRAINING_CURVES[1],
    log:
        f"{LOGS}/fit_training_curves.log",
    benchmark:
        f"{BENCHMARKS}/fit_training_curves.jsonl"
    priority: LONGEST_CHAIN
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("data/fit_curves.py"),
        settings=TRAINING_SETTINGS,
        readout=CURVE_FIT,
    script:
        "../scripts/data/fit_curves.py"


rule fit_curves:
    input:
        detections=expand(f"{CDMAM}/readout/{{setting}}/detections.npy", setting=UNTRAINED),
        graded=expand(f"{CDMAM}/readout/{{setting}}/graded.csv", setting=UNTRAINED),
        fitted=TRAINING_CURVES,
    output:
        curves=f"{CDMAM}/tables/cdc.csv",
        variation=f"{CDMAM}/tables/cdc_variation.csv",
    log:
        f"{LOGS}/fit_curves.log",
    benchmark:
        f"{BENCHMARKS}/fit_curves.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("data/fit_curves.py"),
        settings=UNTRAINED,
        readout=CURVE_FIT,
    script:
        "../scripts/data/fit_curves.py"


# Data sets of the classification studies: write the twin where no real folder is given, prepare, divide.
rule write_twin:
    output:
        folder=temp(directory(f"{DATASET}/raw")),
    log:
        f"{LOGS}/write_twin/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/write_twin/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=lambda wildcards: TWIN_CODE[wildcards.dataset],
        twin=lambda wildcards: {
            "format": DATASETS[wildcards.dataset].format,
            "settings": plain(DATASETS[wildcards.dataset].twin),
            "seed": study.seed,
        },
    script:
        "../scripts/data/write_twin.py"


rule prepare:
    input:
        lambda wildcards: f"{DATASET}/raw" if DATASETS[wildcards.dataset].simulated else [],
    output:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        structures=f"{DATASET}/prepared/structures.npy",
        originals=f"{DATASET}/prepared/originals.npy",
        original_masks=f"{DATASET}/prepared/original_masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        skipped=f"{DATASET}/prepared/skipped.csv",
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=lambda wildcards: READER_CODE[wildcards.dataset],
        source=source,
        key=lambda wildcards: None if DATASETS[wildcards.dataset].simulated else study.pseudonym_key,
    script:
        "../scripts/data/prepare.py"


rule split:
    input:
        table=f"{DATASET}/prepared/table.parquet",
    output:
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
    log:
        f"{LOGS}/split/{{dataset}}-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/split/{{dataset}}-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=500,
    params:
        code=code("data/split.py"),
        split=lambda wildcards: plain(DATASETS[wildcards.dataset].split),
    script:
        "../scripts/data/split.py"


rule draw_dataset:
    input:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=lambda wildcards: f"{DATASET}/splits/seed-{DATASETS[wildcards.dataset].seeds[0]}.csv",
    output:
        examples=picture("examples"),
        split=picture("split"),
    log:
        f"{LOGS}/draw_dataset/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_dataset/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_dataset.py"),
    script:
        "../scripts/report/draw_dataset.py"
