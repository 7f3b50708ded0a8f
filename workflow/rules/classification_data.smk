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
        "../scripts/write_twin.py"


rule prepare:
    input:
        lambda wildcards: f"{DATASET}/raw" if DATASETS[wildcards.dataset].simulated else [],
    output:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        structures=f"{DATASET}/prepared/structures.npy",
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
        "../scripts/prepare.py"


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
        code=code("split.py"),
        split=lambda wildcards: plain(DATASETS[wildcards.dataset].split),
    script:
        "../scripts/split.py"


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
        code=code("draw_dataset.py"),
    script:
        "../scripts/draw_dataset.py"
