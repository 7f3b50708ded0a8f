# Explanations: of the ensemble on sampled and full images, and of each network with each family of methods.
# Explanations of the ensemble's midpoint: on sampled images, upsampled to full resolution, and checked.
for family, methods in FAMILIES.items():

    rule:
        name:
            f"explain_{family}"
        input:
            models=MODELS,
            images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=EXPLAINED_SETS),
            tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=EXPLAINED_SETS),
        output:
            maps=expand(f"{CDMAM}/saliency/{{method}}.npy", method=methods),
            validity=f"{CDMAM}/saliency/{family}_validity.csv",
        log:
            f"{LOGS}/explain/{family}.log",
        benchmark:
            f"{BENCHMARKS}/explain/{family}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        threads: study.compute.threads
        resources:
            mem_mb=4000,
            gpu=1 if study.compute.device == "cuda" else 0,
        params:
            code=code("explain/explain.py", module_of(methods[0]), entries=methods),
            methods={method: options(method) for method in methods},
            images_per_group=EXPLAIN.images,
            seed=study.seed,
            ensemble=ENSEMBLE,
        script:
            "../scripts/explain/explain.py"


if "omig" in EXPLAIN.methods:

    rule compare_omig_parameters:
        input:
            models=MODELS,
            images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=EXPLAINED_SETS),
            tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=EXPLAINED_SETS),
        output:
            maps=f"{CDMAM}/saliency/omig_parameters.npy",
            table=f"{CDMAM}/tables/omig_parameters.csv",
        log:
            f"{LOGS}/compare_omig_parameters.log",
        benchmark:
            f"{BENCHMARKS}/compare_omig_parameters.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        threads: study.compute.threads
        resources:
            mem_mb=4000,
            gpu=1 if study.compute.device == "cuda" else 0,
        params:
            code=code("explain/compare_omig_parameters.py", module_of("omig"), entries=["omig"]),
            options={
                "c_values": EXPLAIN.c_values,
                "step_values": EXPLAIN.step_values,
                "outlier_z": EXPLAIN.omig.outlier_z,
            },
            ensemble=ENSEMBLE,
        script:
            "../scripts/explain/compare_omig_parameters.py"


# The turned image is looked at once, to see whether what is found turns with it, and deleted.
for rule_name, images, kept in (("original", NOT_ROTATED, str), ("original_rotated", ".*-rotated", temp)):

    rule:
        name:
            rule_name
        input:
            original_source,
        output:
            counts=kept(f"{CDMAM}/originals/{{image}}/counts.npy"),
            structure=f"{CDMAM}/originals/{{image}}/structure.png",
            facts=f"{CDMAM}/originals/{{image}}/facts.json",
        log:
            f"{LOGS}/original/{{image}}.log",
        benchmark:
            f"{BENCHMARKS}/original/{{image}}.jsonl"
        wildcard_constraints:
            image=images,
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=2000,
        params:
            code=code("data/original.py"),
            original=original_params,
        script:
            "../scripts/data/original.py"


for method in UPSAMPLING.methods:

    rule:
        name:
            f"upsample_{method}"
        input:
            models=MODELS,
            counts=f"{CDMAM}/originals/{{image}}/counts.npy",
        output:
            shard=temp(directory(f"{CDMAM}/upsampled/{method}/{{image}}/shard-{{shard}}")),
        log:
            f"{LOGS}/upsample/{method}/{{image}}/shard-{{shard}}.log",
        benchmark:
            f"{BENCHMARKS}/upsample/{method}/{{image}}/shard-{{shard}}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        threads: study.compute.threads
        resources:
            mem_mb=8000,
            gpu=1 if study.compute.device == "cuda" else 0,
        params:
            code=code("explain/upsample.py", module_of(method), entries=[method]),
            method=method,
            options=options(method),
            upsampling=plain(UPSAMPLING, "methods", "groups", "images"),
            size=cdmam.sampling.size,
            seed=study.seed,
            shard=lambda wildcards: int(wildcards.shard),
            ensemble=ENSEMBLE,
        script:
            "../scripts/explain/upsample.py"


for rule_name, images, kept in (
    ("merge_upsampling", NOT_ROTATED, str),
    ("merge_upsampling_rotated", ".*-rotated", temp),
):

    rule:
        name:
            rule_name
        input:
            shards=lambda wildcards: expand(
                f"{CDMAM}/upsampled/{{method}}/{{image}}/shard-{{shard}}",
                method=wildcards.method,
                image=wildcards.image,
                shard=range(UPSAMPLING.shards),
            ),
        output:
            map=kept(f"{CDMAM}/upsampled/{{method}}/{{image}}/map.npy"),
            standard_error=kept(f"{CDMAM}/upsampled/{{method}}/{{image}}/standard_error.npy"),
            disagreement=kept(f"{CDMAM}/upsampled/{{method}}/{{image}}/disagreement.npy"),
            summary=f"{CDMAM}/upsampled/{{method}}/{{image}}/summary.json",
        log:
            f"{LOGS}/merge_upsampling/{{method}}/{{image}}.log",
        benchmark:
            f"{BENCHMARKS}/merge_upsampling/{{method}}/{{image}}.jsonl"
        wildcard_constraints:
            image=images,
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=8000,
        params:
            code=code("explain/merge_upsampling.py"),
        script:
            "../scripts/explain/merge_upsampling.py"


rule count_visits:
    input:
        counts=f"{CDMAM}/originals/{{image}}/counts.npy",
    output:
        visits=f"{CDMAM}/originals/{{image}}/visits.png",
    log:
        f"{LOGS}/count_visits/{{image}}.log",
    benchmark:
        f"{BENCHMARKS}/count_visits/{{image}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("explain/count_visits.py"),
        upsampling=plain(UPSAMPLING, "methods", "groups", "images"),
        size=cdmam.sampling.size,
        seed=study.seed,
    script:
        "../scripts/explain/count_visits.py"


rule check_modified_image:
    input:
        models=MODELS,
        counts=f"{CDMAM}/originals/{{image}}/counts.npy",
        maps=expand(f"{CDMAM}/upsampled/{{method}}/{{{{image}}}}/map.npy", method=UPSAMPLING.methods),
        visits=f"{CDMAM}/originals/{{image}}/visits.png",
        summaries=expand(f"{CDMAM}/upsampled/{{method}}/{{{{image}}}}/summary.json", method=UPSAMPLING.methods),
    output:
        table=f"{CDMAM}/checks/{{image}}.csv",
        curves=f"{CDMAM}/checks/{{image}}_curves.csv",
    log:
        f"{LOGS}/check_modified_image/{{image}}.log",
    benchmark:
        f"{BENCHMARKS}/check_modified_image/{{image}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=4000,
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=code("score/check_modified_image.py"),
        methods=list(UPSAMPLING.methods),
        checks={"samplings": cdmam.checks.samplings, "size": cdmam.sampling.size, "seed": study.seed},
        ensemble=ENSEMBLE,
    script:
        "../scripts/score/check_modified_image.py"


rule score_explanations:
    input:
        checks=expand(f"{CDMAM}/checks/{{image}}.csv", image=UPSAMPLED),
        structures=[f"{CDMAM}/originals/{image}/structure.png" for _, image in MAPS],
        maps=[f"{CDMAM}/upsampled/{method}/{image}/map.npy" for method, image in MAPS],
    output:
        modified=f"{CDMAM}/tables/modified_image.csv",
        modified_summary=f"{CDMAM}/tables/modified_image_summary.csv",
        shares=f"{CDMAM}/tables/structure_share.csv",
        shares_summary=f"{CDMAM}/tables/structure_share_summary.csv",
    log:
        f"{LOGS}/score_explanations.log",
    benchmark:
        f"{BENCHMARKS}/score_explanations.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("score/score_explanations.py"),
        maps=[{"method": method, "image": image} for method, image in MAPS],
    script:
        "../scripts/score/score_explanations.py"


rule tabulate_upsampling:
    input:
        summaries=[f"{CDMAM}/upsampled/{method}/{image}/summary.json" for method, image in MAPS],
    output:
        table=f"{CDMAM}/tables/upsampling.csv",
    log:
        f"{LOGS}/tabulate_upsampling.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_upsampling.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=500,
    params:
        code=code("score/tabulate_upsampling.py"),
        maps=[{"method": method, "image": image} for method, image in MAPS],
        benchmarks=f"{BENCHMARKS}/upsample",
    script:
        "../scripts/score/tabulate_upsampling.py"


rule compare_designs:
    input:
        models=MODELS,
        counts=f"{CDMAM}/originals/{UPSAMPLED[0]}/counts.npy",
    output:
        table=f"{CDMAM}/tables/upsampling_designs.csv",
    log:
        f"{LOGS}/compare_designs.log",
    benchmark:
        f"{BENCHMARKS}/compare_designs.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=4000,
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=code("explain/compare_designs.py"),
        designs={
            "draws": [max(1, UPSAMPLING.draws // 4), UPSAMPLING.draws // 2],
            "size": cdmam.sampling.size,
            "batch": UPSAMPLING.batch,
            "seed": study.seed,
        },
        ensemble=ENSEMBLE,
    script:
        "../scripts/explain/compare_designs.py"


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
        code=code("explain/choose_images.py"),
        numbers=SALIENCY.model_dump(include={"images", "costly_images", "masking_images", "severity_images"}),
    script:
        "../scripts/explain/choose_images.py"


# Maps of randomised networks, of images of rising severity, and of the members of an ensemble but the first are scored
# or averaged once and then deleted, a third of a study's disk space; `snakemake --notemp` keeps them for those who
# change a score.
EXPLAINED_NETWORKS = [
    ("explain_network", {"weights": "trained"}, str),
    ("explain_randomised", {"weights": "semi_random|fully_random"}, temp),
] + [
    (
        f"explain_member_{name}",
        {"weights": "trained", "dataset": name, "seed": "|".join(map(str, DATASETS[name].seeds[1:]))},
        temp,
    )
    for name in ENSEMBLES
]
for rule_name, constraints, kept in EXPLAINED_NETWORKS:
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
                    if constraints["weights"] == "trained" and family not in COSTLY_FAMILIES
                ],
                checks=f"{MAPS_OF}/{family}_checks.csv",
                cost=f"{MAPS_OF}/{family}_cost.csv",
            log:
                f"{LOGS}/explain_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}-{family}.log",
            benchmark:
                f"{BENCHMARKS}/explain_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}-{family}.jsonl"
            wildcard_constraints:
                **constraints,
            conda:
                "../../envs/xiqa.yaml"
            threads: study.compute.threads
            resources:
                mem_mb=int(1000 * SALIENCY.memory_gb + 2000),
            params:
                code=code(
                    "explain/explain_network.py", module_of(base_method(methods[0])), entries=entries_of(*methods)
                ),
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
                "../scripts/explain/explain_network.py"

        # A member is a trained network, too.
        if rule_name.startswith("explain_member"):
            workflow.ruleorder(f"{rule_name}_{family}", f"explain_network_{family}")


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
        code=code("score/tabulate_saliency.py"),
        networks=lambda wildcards: [n for n in networks(wildcards.dataset) for _ in families_of(wildcards.dataset, n)],
    script:
        "../scripts/score/tabulate_saliency.py"


# Maps of large images, of which a network sees random rows and columns, upsampled to their prepared size.
rule upsample_network:
    input:
        originals=f"{DATASET}/prepared/originals.npy",
        masks=f"{DATASET}/prepared/original_masks.npy",
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=lambda wildcards: f"{DATASET}/explained/seed-{first_seed(wildcards)}.parquet",
        weights=lambda wildcards: f"{DATASET}/models/{NETWORK.format(**first_network(wildcards.dataset))}/weights.safetensors",
    output:
        shard=temp(directory(f"{UPSAMPLED_OF}/shard-{{shard}}")),
    log:
        f"{LOGS}/upsample_network/{{dataset}}/{{method}}-{{index}}-{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/upsample_network/{{dataset}}/{{method}}-{{index}}-{{shard}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=int(1000 * SALIENCY.memory_gb + 2000),
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=lambda wildcards: code(
            "explain/upsample_network.py", module_of(wildcards.method), entries=entries_of(wildcards.method)
        ),
        sampling=lambda wildcards: sampling_of(wildcards.dataset, "size", "draws", "shards", "batch"),
        explained=what_is_explained,
        seed=study.seed,
    script:
        "../scripts/explain/upsample_network.py"


rule merge_network_upsampling:
    input:
        shards=lambda wildcards: [
            f"{UPSAMPLED_OF}/shard-{shard}" for shard in range(DATASETS[wildcards.dataset].sampling.shards)
        ],
    output:
        map=f"{UPSAMPLED_OF}/map.npy",
        standard_error=f"{UPSAMPLED_OF}/standard_error.npy",
        visits=f"{UPSAMPLED_OF}/visits.npy",
        summary=f"{UPSAMPLED_OF}/summary.json",
    log:
        f"{LOGS}/merge_network_upsampling/{{dataset}}/{{method}}-{{index}}.log",
    benchmark:
        f"{BENCHMARKS}/merge_network_upsampling/{{dataset}}/{{method}}-{{index}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("explain/merge_upsampling.py"),
    script:
        "../scripts/explain/merge_upsampling.py"


rule report_upsampled:
    input:
        originals=f"{DATASET}/prepared/originals.npy",
        masks=f"{DATASET}/prepared/original_masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=lambda wildcards: f"{DATASET}/explained/seed-{first_seed(wildcards)}.parquet",
        maps=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/upsampled/{method}/{number}/map.npy"
            for method, number in upsampled_maps(wildcards.dataset)
        ],
    output:
        shares=f"{DATASET}/tables/upsampled.csv",
        figure=picture("upsampled_maps"),
    log:
        f"{LOGS}/report_upsampled/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/report_upsampled/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("report/report_upsampled.py"),
        maps=lambda wildcards: upsampled_maps(wildcards.dataset),
        network=lambda wildcards: first_network(wildcards.dataset),
    script:
        "../scripts/report/report_upsampled.py"
