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
        code=code("draw_images.py"),
        methods=list(EXPLAIN.methods[:3]),
        images_per_group=EXPLAIN.images,
        phantom={
            "geometry": cdmam.geometry,
            "detector": plain(cdmam.detector),
            "exposure": plain(next(iter(cdmam.scenarios.values()))),
        },
    script:
        "../scripts/draw_images.py"


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
        code=code("draw_predictions.py"),
        groups=TEST_SETS,
    script:
        "../scripts/draw_predictions.py"


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
        code=code("draw_maps.py"),
        methods=list(EXPLAIN.methods),
        images_per_group=EXPLAIN.images,
    script:
        "../scripts/draw_maps.py"


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
        code=code("draw_upsampled.py"),
    script:
        "../scripts/draw_upsampled.py"


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
        code=code("draw_checks.py"),
    script:
        "../scripts/draw_checks.py"


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
        code=code("write_findings.py"),
        study=study.study,
        data="simulated and recorded" if RECORDED else "simulated",
        captions=captions(CDMAM_FIGURES),
    script:
        "../scripts/write_findings.py"
