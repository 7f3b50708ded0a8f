# Scores of maps: against the ground truth, by masking, while the network is randomised; and of regressions.
# Scores of the saliency maps: against the ground truth, by masking, while the network is randomised; their tables.
rule score_localisation:
    input:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=f"{DATASET}/explained/seed-{{seed}}.parquet",
        maps=maps_of,
        published=published_maps_of,
        severity=severity_maps_of,
    output:
        scores=f"{SCORES_OF}/localisation.parquet",
        pointing_games=f"{SCORES_OF}/pointing_game.parquet",
        curves=f"{SCORES_OF}/curves.csv",
        agreement=f"{SCORES_OF}/agreement.csv",
    log:
        f"{LOGS}/score_localisation/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/score_localisation/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("score/score_localisation.py", *dict.fromkeys(map(score_module, scores()))),
        images=lambda wildcards: {method: images_of(method) for method in methods_of(wildcards)},
        tolerance_width=lambda wildcards: DATASETS[wildcards.dataset].tolerance_width,
        published_form=has_published_signs,
    script:
        "../scripts/score/score_localisation.py"


rule score_fidelity:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=f"{DATASET}/explained/seed-{{seed}}.parquet",
        weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
        maps=maps_of,
    output:
        scores=f"{SCORES_OF}/masking.parquet",
        curves=f"{SCORES_OF}/masking_curves.csv",
    log:
        f"{LOGS}/score_fidelity/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/score_fidelity/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=3000,
        gpu=1 if study.compute.device == "cuda" else 0,
    params:
        code=code("score/score_fidelity.py"),
        images=lambda wildcards: {method: images_of(method) for method in methods_of(wildcards)},
        settings=lambda wildcards: {
            "masked_with": DATASETS[wildcards.dataset].masked_with,
            "published_form": has_published_signs(wildcards),
            "steps": SALIENCY.fidelity_steps,
            "seed": study.seed,
            "device": study.compute.device,
            "precision": SALIENCY.masking_precision,
        },
    script:
        "../scripts/score/score_fidelity.py"


rule cascade_network:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=f"{DATASET}/explained/seed-{{seed}}.parquet",
        weights=f"{DATASET}/models/{{architecture}}/{{weights}}/seed-{{seed}}/weights.safetensors",
    output:
        scores=f"{SCORES_OF}/cascade.parquet",
    log:
        f"{LOGS}/cascade_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/cascade_network/{{dataset}}/{{architecture}}/{{weights}}/seed-{{seed}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=int(1000 * SALIENCY.memory_gb + 2000),
    params:
        code=code(
            "explain/cascade_network.py",
            *dict.fromkeys(module_of(method) for method in SALIENCY.cascade),
            entries=entries_of(*SALIENCY.cascade),
        ),
        methods=lambda wildcards: [m for m in SALIENCY.cascade if m in methods_of(wildcards)],
        alignment=SALIENCY.alignment,
        explained=what_is_explained,
        seed=study.seed,
    script:
        "../scripts/explain/cascade_network.py"


rule tabulate_scores:
    input:
        scores=lambda wildcards: map_scores(wildcards.dataset),
        pointing_games=lambda wildcards: pointing_games(wildcards.dataset),
        agreement=lambda wildcards: scores_of_first(wildcards.dataset, "agreement.csv"),
        curves=lambda wildcards: scores_of_first(wildcards.dataset, "curves.csv"),
        masking=lambda wildcards: scores_of_first(wildcards.dataset, "masking_curves.csv"),
        cascades=lambda wildcards: [scores_of_first(wildcards.dataset, "cascade.parquet")] if SALIENCY.cascade else [],
        table=f"{DATASET}/prepared/table.parquet",
    output:
        **{name: f"{DATASET}/tables/{name}.csv" for name in MAP_TABLES},
    log:
        f"{LOGS}/tabulate_scores/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_scores/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("score/tabulate_scores.py"),
        study=lambda wildcards: DATASETS[wildcards.dataset].format,
        first=lambda wildcards: first_network(wildcards.dataset),
    script:
        "../scripts/score/tabulate_scores.py"


rule tabulate_classifiers:
    input:
        scores=f"{DATASET}/tables/scores.csv",
        weights=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/models/{NETWORK.format(**n)}/weights.safetensors"
            for n in networks(wildcards.dataset)
        ],
    output:
        table=f"{DATASET}/tables/classifier.csv",
    log:
        f"{LOGS}/tabulate_classifiers/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_classifiers/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("score/tabulate_classifiers.py"),
        networks=lambda wildcards: networks(wildcards.dataset),
        study=lambda wildcards: DATASETS[wildcards.dataset].format,
    script:
        "../scripts/score/tabulate_classifiers.py"


rule page_of_tables:
    input:
        tables=expand(f"{DATASET}/tables/{{table}}.csv", table=PAGE_TABLES, allow_missing=True),
        figures=lambda wildcards: pictures_of(wildcards.dataset),
    output:
        page=report(f"{DATASET}/tables.html", caption="../report/tables.rst", category="{dataset}"),
    log:
        f"{LOGS}/page_of_tables/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/page_of_tables/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=500,
    params:
        code=code("report/page_of_tables.py"),
        captions=captions(PAGE_FIGURES),
    script:
        "../scripts/report/page_of_tables.py"


rule draw_saliency:
    input:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=lambda wildcards: f"{DATASET}/explained/seed-{first_seed(wildcards)}.parquet",
        scores=lambda wildcards: f"{DATASET}/scores/{{architecture}}/trained/seed-{first_seed(wildcards)}/localisation.parquet",
        maps=lambda wildcards: maps_of(trained(wildcards)),
    output:
        panel=picture("saliency", f"{DATASET}/figures/{{architecture}}"),
    log:
        f"{LOGS}/draw_saliency/{{dataset}}/{{architecture}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_saliency/{{dataset}}/{{architecture}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_saliency.py"),
        images=lambda wildcards: {m: images_of(m) for m in methods_of(trained(wildcards))},
    script:
        "../scripts/report/draw_saliency.py"


rule draw_scores:
    input:
        tables=expand(f"{DATASET}/tables/{{table}}.csv", table=MAP_TABLES, allow_missing=True),
        curves=lambda wildcards: scores_of_first(wildcards.dataset, "curves.csv"),
        masking=lambda wildcards: scores_of_first(wildcards.dataset, "masking_curves.csv"),
    output:
        **{name: picture(name) for name in SCORE_FIGURES},
    log:
        f"{LOGS}/draw_scores/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_scores/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_scores.py"),
        network=lambda wildcards: first_network(wildcards.dataset),
    script:
        "../scripts/report/draw_scores.py"


rule compare_alignment:
    input:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        chosen=lambda wildcards: f"{DATASET}/explained/seed-{first_seed(wildcards)}.parquet",
        weights=lambda wildcards: (
            f"{RESULTS}/{wildcards.dataset}/models/{NETWORK.format(**first_network(wildcards.dataset))}/weights.safetensors"
        ),
    output:
        table=f"{DATASET}/tables/alignment.csv",
        panel=picture("alignment"),
    log:
        f"{LOGS}/compare_alignment/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/compare_alignment/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=int(1000 * SALIENCY.memory_gb + 2000),
    params:
        code=code("explain/compare_alignment.py", "xiqa.saliency.one_pass", entries=LAYER_METHODS),
        methods=LAYER_METHODS,
        explained=what_is_explained,
        tolerance_width=lambda wildcards: DATASETS[wildcards.dataset].tolerance_width,
    script:
        "../scripts/explain/compare_alignment.py"


rule compare_methods:
    input:
        scores=[path for name in CLASSIFICATIONS for path in map_scores(name)],
        pointing_games=[path for name in CLASSIFICATIONS for path in pointing_games(name)],
        costs=[path for name in CLASSIFICATIONS for path in costs_of(name)],
        images=[f"{RESULTS}/{name}/prepared/table.parquet" for name in CLASSIFICATIONS],
        comparisons=[f"{RESULTS}/{name}/tables/comparison.csv" for name in CLASSIFICATIONS],
        tables=[f"{RESULTS}/{name}/tables/{table}.csv" for name in CLASSIFICATIONS for table in CLAIMED_TABLES],
    output:
        **COMPARISON,
        figure=picture("trust", f"{RESULTS}/figures"),
        page=report(f"{RESULTS}/findings.html", caption="../report/findings.rst", category="0 Findings"),
    log:
        f"{LOGS}/compare_methods.log",
    benchmark:
        f"{BENCHMARKS}/compare_methods.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("score/compare_methods.py"),
        paths={
            "paths_to_scores": {name: map_scores(name) for name in CLASSIFICATIONS},
            "paths_to_games": {name: pointing_games(name) for name in CLASSIFICATIONS},
            "paths_to_costs": {name: costs_of(name) for name in CLASSIFICATIONS},
            "paths_to_images": {name: f"{RESULTS}/{name}/prepared/table.parquet" for name in CLASSIFICATIONS},
            "paths_to_comparisons": {name: f"{RESULTS}/{name}/tables/comparison.csv" for name in CLASSIFICATIONS},
            "paths_to_tables": {
                table: {name: f"{RESULTS}/{name}/tables/{table}.csv" for name in CLASSIFICATIONS}
                for table in CLAIMED_TABLES
            },
        },
        first={name: first_network(name) for name in CLASSIFICATIONS},
    script:
        "../scripts/score/compare_methods.py"


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
        code=code("score/score_regression.py"),
        models=lambda wildcards: networks(wildcards.dataset),
    script:
        "../scripts/score/score_regression.py"


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
        code=code("score/share_structures.py"),
        maps=lambda wildcards: structure_maps(wildcards.dataset),
    script:
        "../scripts/score/share_structures.py"


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
            code=code("report/report_regression.py"),
            dataset=name,
            folders={
                f"seed {seed}": f"{RESULTS}/{name}/models/{DATASETS[name].networks[0].architecture}/trained/seed-{seed}"
                for seed in DATASETS[name].seeds
            },
            maps=shown_members(name),
        script:
            "../scripts/report/report_regression.py"


for name in ENSEMBLES if SALIENCY.methods else ():
    AVERAGED = maps_of_members(name, DATASETS[name].networks[0].architecture)
    AVERAGES = ENSEMBLE_MAPS.format(dataset=name, architecture=DATASETS[name].networks[0].architecture)

    rule:
        name:
            f"average_members_{name}"
        input:
            [path for paths in AVERAGED.values() for path in paths],
        output:
            means=[f"{AVERAGES}/{method}.npy" for method in AVERAGED],
            spreads=[f"{AVERAGES}/spread/{method}.npy" for method in AVERAGED],
        log:
            f"{LOGS}/average_members/{name}.log",
        benchmark:
            f"{BENCHMARKS}/average_members/{name}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        resources:
            mem_mb=1000,
        params:
            code=code("explain/average_members.py"),
            maps=AVERAGED,
            dataset=name,
        script:
            "../scripts/explain/average_members.py"
