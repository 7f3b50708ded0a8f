# Other families of explanations: concepts and cases.
# Concepts: images that are rendered for the question, and what the outputs of networks do along each concept.
rule design_set:
    input:
        table=f"{DATASET}/prepared/table.parquet",
        split=lambda wildcards: f"{DATASET}/splits/seed-{first_seed(wildcards)}.csv",
    output:
        images=f"{DESIGNED}/images.npy",
        table=f"{DESIGNED}/table.parquet",
        correlations=f"{DATASET}/tables/measure_correlations.csv",
    log:
        f"{LOGS}/design_set/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/design_set/{{dataset}}.jsonl"
    wildcard_constraints:
        dataset="|".join(CONCEPT_SETS) or "none",
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=lambda wildcards: DESIGN_CODE[wildcards.dataset],
        dataset=lambda wildcards: plain(DATASETS[wildcards.dataset], "networks", "training", "seeds"),
        seed=study.seed,
    script:
        "../scripts/concepts/design_set.py"


rule score_concepts:
    input:
        images=f"{DESIGNED}/images.npy",
        table=f"{DESIGNED}/table.parquet",
        weights=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/models/{NETWORK.format(**n)}/weights.safetensors"
            for n in concept_networks(wildcards.dataset)
        ],
    output:
        effects=f"{DATASET}/tables/concept_effects.csv",
        agreement=f"{DATASET}/tables/concept_agreement.csv",
        ladders=f"{DATASET}/tables/concept_ladders.csv",
    log:
        f"{LOGS}/score_concepts/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/score_concepts/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=2000,
    params:
        code=code("concepts/score_concepts.py"),
        networks=lambda wildcards: concept_networks(wildcards.dataset),
        measures=lambda wildcards: list(DATASETS[wildcards.dataset].concepts.measures),
        permutations=lambda wildcards: DATASETS[wildcards.dataset].concepts.permutations,
        seed=study.seed,
    script:
        "../scripts/concepts/score_concepts.py"


rule score_bottleneck:
    input:
        images=f"{DESIGNED}/images.npy",
        table=f"{DESIGNED}/table.parquet",
        weights=lambda wildcards: weights_of_first(wildcards.dataset),
    output:
        scores=f"{DATASET}/tables/bottleneck_scores.csv",
        curves=f"{DATASET}/tables/bottleneck_curves.csv",
    log:
        f"{LOGS}/score_bottleneck/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/score_bottleneck/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=2000,
    params:
        code=code("concepts/score_bottleneck.py"),
        network=lambda wildcards: first_network(wildcards.dataset),
        seed=study.seed,
    script:
        "../scripts/concepts/score_bottleneck.py"


rule report_concepts:
    input:
        bottleneck_scores=f"{DATASET}/tables/bottleneck_scores.csv",
        bottleneck_curves=f"{DATASET}/tables/bottleneck_curves.csv",
        effects=f"{DATASET}/tables/concept_effects.csv",
        agreement=f"{DATASET}/tables/concept_agreement.csv",
        ladders=f"{DATASET}/tables/concept_ladders.csv",
        correlations=f"{DATASET}/tables/measure_correlations.csv",
    output:
        **{name: picture(name) for name in CONCEPT_FIGURES},
        findings=f"{DATASET}/concepts.md",
        page=report(f"{DATASET}/concepts.html", caption="../report/findings.rst", category="0 Findings"),
    log:
        f"{LOGS}/report_concepts/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/report_concepts/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("concepts/report_concepts.py"),
    script:
        "../scripts/concepts/report_concepts.py"


# Counterfactuals: images that would be decided otherwise, beside those that are rendered so.
rule score_counterfactuals:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=lambda wildcards: f"{DATASET}/splits/seed-{first_seed(wildcards)}.csv",
        weights=lambda wildcards: weights_of_first(wildcards.dataset),
    output:
        scores=f"{DATASET}/tables/counterfactual_scores.csv",
        images=f"{DATASET}/tables/counterfactuals.csv",
        figure=picture("counterfactuals"),
        findings=f"{DATASET}/counterfactuals.md",
        page=report(f"{DATASET}/counterfactuals.html", caption="../report/findings.rst", category="0 Findings"),
    log:
        f"{LOGS}/score_counterfactuals/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/score_counterfactuals/{{dataset}}.jsonl"
    wildcard_constraints:
        dataset="|".join(COUNTERFACTUAL_SETS) or "none",
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=3000,
    params:
        code=lambda wildcards: COUNTERFACTUAL_CODE[wildcards.dataset],
        network=lambda wildcards: first_network(wildcards.dataset),
        dataset=lambda wildcards: plain(DATASETS[wildcards.dataset], "networks", "training", "seeds"),
        seed=study.seed,
    script:
        "../scripts/concepts/score_counterfactuals.py"


# Explanations by cases: the training images that the first network holds to be most like a test image.
rule nearest_cases:
    input:
        images=f"{DATASET}/prepared/images.npy",
        table=f"{DATASET}/prepared/table.parquet",
        split=lambda wildcards: f"{DATASET}/splits/seed-{first_seed(wildcards)}.csv",
        weights=lambda wildcards: weights_of_first(wildcards.dataset),
    output:
        cases=f"{DATASET}/tables/nearest_cases.csv",
        scores=f"{DATASET}/tables/nearest_scores.csv",
        figure=picture("nearest_cases"),
    log:
        f"{LOGS}/nearest_cases/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/nearest_cases/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=2000,
    params:
        code=code("concepts/nearest_cases.py"),
        network=lambda wildcards: first_network(wildcards.dataset),
        neighbours=lambda wildcards: DATASETS[wildcards.dataset].nearest_cases,
    script:
        "../scripts/concepts/nearest_cases.py"


# The curve of the ensemble: does it follow noise, exposure, tube voltage and blur as the physics does?
rule score_curve_concepts:
    input:
        MODELS,
    output:
        effects=f"{CDMAM}/tables/concept_effects.csv",
        agreement=f"{CDMAM}/tables/concept_agreement.csv",
        figure=report(f"{FIGURES}/curve_concepts.png", caption="../report/curve_concepts.rst", category="CDMAM"),
        findings=f"{CDMAM}/concepts.md",
        page=report(f"{CDMAM}/concepts.html", caption="../report/findings.rst", category="0 Findings"),
    log:
        f"{LOGS}/score_curve_concepts.log",
    benchmark:
        f"{BENCHMARKS}/score_curve_concepts.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=2000,
    params:
        code=code("concepts/score_curve_concepts.py"),
        design=curve_design(),
        permutations=cdmam.concepts.permutations if cdmam.concepts else 0,
    script:
        "../scripts/concepts/score_curve_concepts.py"


# Which codes of an autoencoder of single cells stand for which property?
rule explore_latent:
    output:
        scores=f"{CDMAM}/tables/latent_scores.csv",
        factors=f"{CDMAM}/tables/latent_factors.csv",
        history=f"{CDMAM}/tables/latent_history.csv",
        figure=report(f"{FIGURES}/latent_traversals.png", caption="../report/latent_traversals.rst", category="CDMAM"),
        findings=f"{CDMAM}/latent.md",
        page=report(f"{CDMAM}/latent.html", caption="../report/findings.rst", category="0 Findings"),
    log:
        f"{LOGS}/explore_latent.log",
    benchmark:
        f"{BENCHMARKS}/explore_latent.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=2000,
    params:
        code=code("concepts/explore_latent.py"),
        geometry=cdmam.geometry,
        latent=plain(cdmam.latent) if cdmam.latent else {},
        seed=study.seed,
    script:
        "../scripts/concepts/explore_latent.py"
