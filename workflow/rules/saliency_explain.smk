# Saliency maps of the classifiers: one job per network and family of methods that share their passes.
rule choose_images:
    input:
        table=f"{DATASET}/prepared/table.parquet",
        masks=f"{DATASET}/prepared/masks.npy",
        split=f"{DATASET}/splits/seed-{{seed}}.csv",
    output:
        chosen=f"{DATASET}/explained/seed-{{seed}}.parquet",
    log:
        f"{LOGS}/choose_images/{{dataset}}-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/choose_images/{{dataset}}-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=500,
    params:
        code=code("choose_images.py"),
        numbers=SALIENCY.model_dump(include={"images", "costly_images", "masking_images", "severity_images"}),
    script:
        "../scripts/choose_images.py"


# Maps of randomised networks and of images of rising severity are scored once and then deleted, a third of a study's
# disk space; `snakemake --notemp` keeps them for those who change a score.
for rule_name, states, kept in (
    ("explain_classifier", "trained", str),
    ("explain_randomised", "semi_random|fully_random", temp),
):
    for family, methods in ATTRIBUTION_FAMILIES.items():

        rule:
            name:
                f"{rule_name}_{family}"
            input:
                images=f"{DATASET}/prepared/images.npy",
                table=f"{DATASET}/prepared/table.parquet",
                split=f"{DATASET}/splits/seed-{{seed}}.csv",
                chosen=f"{DATASET}/explained/seed-{{seed}}.parquet",
                weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
            output:
                maps=[kept(f"{MAPS_OF}/{method}.npy") for method in methods],
                published=[kept(f"{MAPS_OF}/published/{method}.npy") for method in RELEASED if family == "one_pass"],
                severity=[
                    temp(f"{MAPS_OF}/severity/{method}.npy")
                    for method in methods
                    if states == "trained" and family not in COSTLY_FAMILIES
                ],
                checks=f"{MAPS_OF}/{family}_checks.csv",
                cost=f"{MAPS_OF}/{family}_cost.csv",
            log:
                f"{LOGS}/explain_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}-{family}.log",
            benchmark:
                f"{BENCHMARKS}/explain_classifier/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}-{family}.jsonl"
            wildcard_constraints:
                weights=states,
            conda:
                "../../envs/xiqa.yaml"
            threads: study.compute.threads
            resources:
                mem_mb=int(1000 * SALIENCY.memory_gb + 2000),
            params:
                code=code("explain_classifier.py", module_of(base_method(methods[0])), entries=entries_of(*methods)),
                methods=methods,
                published=RELEASED if family == "one_pass" else [],
                images=images_of(methods[0]),
                options=SALIENCY.model_dump(include=COMMON_OPTIONS | FAMILY_OPTIONS.get(base_method(family), set()))
                | {"seed": study.seed}
                | (SMOOTH_OPTIONS if family.endswith("_smooth") else {}),
                explained=what_is_explained,
                top_percent=SALIENCY.xrai_top_percent,
                folder=MAPS_OF,
            script:
                "../scripts/explain_classifier.py"


rule tabulate_saliency:
    input:
        checks=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/saliency/{NETWORK.format(**n)}/{family}_checks.csv"
            for n in networks(wildcards.dataset)
            for family in families_of(wildcards.dataset, n)
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
        networks=lambda wildcards: [n for n in networks(wildcards.dataset) for _ in families_of(wildcards.dataset, n)],
    script:
        "../scripts/tabulate_saliency.py"
