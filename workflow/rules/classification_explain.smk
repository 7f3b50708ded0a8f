# Saliency maps of the classifiers: one job per network and family of methods that share their passes.
SALIENCY = study.saliency
ATTRIBUTION_FAMILIES = {
    family: [method for method in SALIENCY.methods if ATTRIBUTIONS[method] == family]
    for family in dict.fromkeys(ATTRIBUTIONS[method] for method in SALIENCY.methods)
}
FAMILY_OPTIONS = {"smoothgrad": {"samples", "noise_level"}, "gradient_paths": {"steps"}}
COMMON_OPTIONS = {"alignment", "memory_gb"}
MAPS_OF = f"{DATASET}/saliency/{{architecture}}/{{weights}}/seed-{{seed}}"


for family, methods in ATTRIBUTION_FAMILIES.items():

    rule:
        name:
            f"explain_classifier_{family}"
        input:
            images=f"{DATASET}/prepared/images.npy",
            table=f"{DATASET}/prepared/table.parquet",
            split=f"{DATASET}/splits/seed-{{seed}}.csv",
            weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
        output:
            maps=[f"{MAPS_OF}/{method}.npy" for method in methods],
            checks=f"{MAPS_OF}/{family}_checks.csv",
        log:
            f"{LOGS}/explain_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}-{family}.log",
        benchmark:
            f"{BENCHMARKS}/explain_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}-{family}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        threads: study.compute.threads
        resources:
            mem_mb=int(1000 * SALIENCY.memory_gb + 2000),
        params:
            code=code("explain_classifier.py", f"xiqa.saliency.{family}"),
            methods=methods,
            images=SALIENCY.images,
            options=SALIENCY.model_dump(include=COMMON_OPTIONS | FAMILY_OPTIONS.get(family, set()))
            | {"seed": study.seed},
            folder=MAPS_OF,
        script:
            "../scripts/explain_classifier.py"


rule tabulate_saliency:
    input:
        checks=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/saliency/{NETWORK.format(**n)}/{family}_checks.csv"
            for n in networks(wildcards.dataset)
            for family in ATTRIBUTION_FAMILIES
        ],
    output:
        checks=f"{DATASET}/tables/saliency_checks.csv",
    log:
        f"{LOGS}/tabulate_saliency/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_saliency/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=500,
    params:
        code=code("tabulate_saliency.py"),
        networks=lambda wildcards: [n for n in networks(wildcards.dataset) for _ in ATTRIBUTION_FAMILIES],
    script:
        "../scripts/tabulate_saliency.py"


rule draw_saliency:
    input:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=lambda wildcards: f"{DATASET}/splits/seed-{min(DATASETS[wildcards.dataset].seeds)}.csv",
        maps=lambda wildcards: [
            f"{DATASET}/saliency/{{architecture}}/trained/seed-{min(DATASETS[wildcards.dataset].seeds)}/{method}.npy"
            for method in SALIENCY.methods
        ],
    output:
        panel=picture("saliency", "{dataset}", f"{DATASET}/figures/{{architecture}}"),
    log:
        f"{LOGS}/draw_saliency/{{dataset}}/{{architecture}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_saliency/{{dataset}}/{{architecture}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("draw_saliency.py"),
        methods=list(SALIENCY.methods),
        images=SALIENCY.images,
    script:
        "../scripts/draw_saliency.py"
