# Figures, findings and pages.
# Tables and figures of the CDMAM chain, with their captions for the report.
rule draw_images:
    input:
        images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=EXPLAINED_SETS),
        tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=EXPLAINED_SETS),
        maps=expand(f"{CDMAM}/saliency/{{method}}.npy", method=EXPLAIN.methods[:3]),
    output:
        **IMAGE_FIGURES,
    log:
        f"{LOGS}/draw_images.log",
    benchmark:
        f"{BENCHMARKS}/draw_images.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("report/draw_images.py"),
        methods=list(EXPLAIN.methods[:3]),
        images_per_group=EXPLAIN.images,
        phantom={
            "geometry": cdmam.geometry,
            "detector": plain(cdmam.detector),
            "exposure": plain(next(iter(cdmam.scenarios.values()))),
        },
    script:
        "../scripts/report/draw_images.py"


rule draw_predictions:
    input:
        curves=f"{CDMAM}/tables/cdc.csv",
        histories=expand(f"{CDMAM}/models/member-{{member}}/history.csv", member=MEMBERS),
        predictions=f"{CDMAM}/tables/predictions.csv",
        scores=f"{CDMAM}/tables/prediction_scores.csv",
        by_diameter=f"{CDMAM}/tables/prediction_scores_by_diameter.csv",
        curve_methods=f"{CDMAM}/tables/curve_methods.csv",
    output:
        **PREDICTION_FIGURES,
    log:
        f"{LOGS}/draw_predictions.log",
    benchmark:
        f"{BENCHMARKS}/draw_predictions.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_predictions.py"),
        groups=TEST_SETS,
    script:
        "../scripts/report/draw_predictions.py"


rule draw_maps:
    input:
        **(
            {
                "omig_maps": f"{CDMAM}/saliency/omig_parameters.npy",
                "omig_table": f"{CDMAM}/tables/omig_parameters.csv",
            }
            if "omig" in EXPLAIN.methods
            else {}
        ),
        images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=EXPLAINED_SETS),
        tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=EXPLAINED_SETS),
        maps=expand(f"{CDMAM}/saliency/{{method}}.npy", method=EXPLAIN.methods),
    output:
        **MAP_FIGURES,
    log:
        f"{LOGS}/draw_maps.log",
    benchmark:
        f"{BENCHMARKS}/draw_maps.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_maps.py"),
        methods=list(EXPLAIN.methods),
        images_per_group=EXPLAIN.images,
    script:
        "../scripts/report/draw_maps.py"


rule draw_upsampled:
    input:
        map=f"{CDMAM}/upsampled/{{method}}/{{image}}/map.npy",
        visits=f"{CDMAM}/originals/{{image}}/visits.png",
        standard_error=f"{CDMAM}/upsampled/{{method}}/{{image}}/standard_error.npy",
        disagreement=f"{CDMAM}/upsampled/{{method}}/{{image}}/disagreement.npy",
        summary=f"{CDMAM}/upsampled/{{method}}/{{image}}/summary.json",
        counts=f"{CDMAM}/originals/{{image}}/counts.npy",
        structure=f"{CDMAM}/originals/{{image}}/structure.png",
        facts=f"{CDMAM}/originals/{{image}}/facts.json",
    output:
        map=f"{FIGURES}/upsampled/{{method}}_{{image}}.png",
        quality=f"{FIGURES}/upsampled/{{method}}_{{image}}_quality.png",
    log:
        f"{LOGS}/draw_upsampled/{{method}}/{{image}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_upsampled/{{method}}/{{image}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=3000,
    params:
        code=code("report/draw_upsampled.py"),
    script:
        "../scripts/report/draw_upsampled.py"


rule draw_checks:
    input:
        curves=expand(f"{CDMAM}/checks/{{image}}_curves.csv", image=UPSAMPLED),
        modified=f"{CDMAM}/tables/modified_image.csv",
        modified_summary=f"{CDMAM}/tables/modified_image_summary.csv",
        shares=f"{CDMAM}/tables/structure_share_summary.csv",
        designs=f"{CDMAM}/tables/upsampling_designs.csv",
    output:
        **CHECK_FIGURES,
    log:
        f"{LOGS}/draw_checks.log",
    benchmark:
        f"{BENCHMARKS}/draw_checks.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_checks.py"),
    script:
        "../scripts/report/draw_checks.py"


rule write_findings:
    input:
        curves=f"{CDMAM}/tables/cdc.csv",
        scores=f"{CDMAM}/tables/prediction_scores.csv",
        uncertainty=f"{CDMAM}/tables/uncertainty_dependence.csv",
        calibration=f"{CDMAM}/tables/uncertainty_calibration.csv",
        methods=f"{CDMAM}/tables/curve_methods.csv",
        modified=f"{CDMAM}/tables/modified_image_summary.csv",
        shares=f"{CDMAM}/tables/structure_share_summary.csv",
        designs=f"{CDMAM}/tables/upsampling_designs.csv",
        picture=UPSAMPLED_FIGURES[0],
        figures=CDMAM_FIGURES,
    output:
        page=report(f"{CDMAM}/findings.html", caption="../report/findings.rst", category="0 Findings"),
        figures=report(f"{CDMAM}/figures.html", caption="../report/tables.rst", category="CDMAM"),
        text=f"{CDMAM}/findings.md",
    log:
        f"{LOGS}/write_findings.log",
    benchmark:
        f"{BENCHMARKS}/write_findings.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=500,
    params:
        code=code("report/write_findings.py"),
        study=study.study,
        data="simulated and recorded" if RECORDED else "simulated",
        captions=captions(CDMAM_FIGURES),
    script:
        "../scripts/report/write_findings.py"


# Figures and findings of the classification studies.
rule draw_network:
    input:
        tables=expand(f"{DATASET}/tables/{{table}}.csv", table=SCORE_TABLES, allow_missing=True),
        histories=lambda wildcards: expand(
            f"{DATASET}/models/{{architecture}}/trained/seed-{{seed}}/{{file}}",
            **wildcards,
            seed=DATASETS[wildcards.dataset].seeds,
            file=["history.csv", "model.json"],
        ),
        embedding=lambda wildcards: expand(
            f"{DATASET}/embeddings/{{architecture}}/trained/seed-{{seed}}{{kind}}.csv",
            **wildcards,
            seed=DATASETS[wildcards.dataset].seeds[0],
            kind=["", "-silhouette"],
        ),
    output:
        **{name: picture(name, f"{DATASET}/figures/{{architecture}}") for name in NETWORK_FIGURES},
    log:
        f"{LOGS}/draw_network/{{dataset}}/{{architecture}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_network/{{dataset}}/{{architecture}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_network.py"),
        seeds=lambda wildcards: list(DATASETS[wildcards.dataset].seeds),
    script:
        "../scripts/report/draw_network.py"


rule draw_severity:
    input:
        images=f"{DATASET}/prepared/images.npy",
        masks=f"{DATASET}/prepared/masks.npy",
        table=f"{DATASET}/prepared/table.parquet",
        scores=f"{DATASET}/tables/auc_by_severity.csv",
    output:
        **{name: picture(name) for name in SEVERITY_FIGURES},
    log:
        f"{LOGS}/draw_severity/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_severity/{{dataset}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/draw_severity.py"),
    script:
        "../scripts/report/draw_severity.py"


rule summarise_classification:
    input:
        **{
            name: expand(f"{RESULTS}/{{dataset}}/tables/{name}.csv", dataset=CLASSIFICATIONS)
            for name in ("scores", "comparison", "auc_by_severity", *SALIENCY_TABLES[:1])
        },
    output:
        **OVERVIEW,
        overview=picture("overview", f"{CLASSIFICATION}/figures"),
        page=report(f"{CLASSIFICATION}/findings.html", caption="../report/findings.rst", category="0 Findings"),
    log:
        f"{LOGS}/summarise_classification.log",
    benchmark:
        f"{BENCHMARKS}/summarise_classification.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=1000,
    params:
        code=code("report/summarise_classification.py"),
        datasets=CLASSIFICATIONS,
    script:
        "../scripts/report/summarise_classification.py"
