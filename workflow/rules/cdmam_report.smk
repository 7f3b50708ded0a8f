# Tables and figures of the CDMAM chain, with their captions for the report.
FIGURES = f"{CDMAM}/figures"
CAPTIONS = "../report"
IMAGE_FIGURES = {
    "sampled": f"{FIGURES}/figure_01_sampled_images.png",
    "phantom": f"{FIGURES}/figure_08_phantom.png",
    "margin": f"{FIGURES}/figure_09_margin_and_maps.png",
}
PREDICTION_FIGURES = {
    "cdc": f"{FIGURES}/curves_read_out.png",
    "history": f"{FIGURES}/training_history.png",
    "curves": f"{FIGURES}/figure_02a_predicted_curves.png",
    "errors": f"{FIGURES}/figure_02b_error_against_uncertainty.png",
    "coverage": f"{FIGURES}/coverage.png",
    "shortcut": f"{FIGURES}/shortcut.png",
}
MAP_FIGURES = {"maps": f"{FIGURES}/figure_03_sampled_maps.png"}
if "omig" in EXPLAIN.methods:
    MAP_FIGURES["omig_parameters"] = f"{FIGURES}/figure_14_omig_parameters.png"
CHECK_FIGURES = {
    "curves": f"{FIGURES}/figure_13_modified_curves.png",
    "midpoints": f"{FIGURES}/modified_midpoints.png",
    "shares": f"{FIGURES}/structure_share.png",
    "designs": f"{FIGURES}/upsampling_designs.png",
}
# Figures 4-6 are upsampled OMIG maps, 7 the rotated image, 12 the sensitivity maps: one file per map here.
UPSAMPLED_FIGURES = [f"{FIGURES}/upsampled/{method}_{image}.png" for method, image in MAPS]
CDMAM_FIGURES = [
    *IMAGE_FIGURES.values(),
    *PREDICTION_FIGURES.values(),
    *MAP_FIGURES.values(),
    *UPSAMPLED_FIGURES,
    *CHECK_FIGURES.values(),
]
CDMAM_TABLES = expand(
    f"{CDMAM}/tables/{{table}}.csv",
    table=[
        "cdc",
        "cdc_variation",
        "predictions",
        "prediction_scores",
        "prediction_scores_by_diameter",
        "modified_image",
        "modified_image_summary",
        "structure_share",
        "structure_share_summary",
        "upsampling",
        "upsampling_designs",
        *(["omig_parameters"] if "omig" in EXPLAIN.methods else []),
    ],
)


def captioned(figures, category):
    """Figures as outputs of a rule, each with its caption in the report."""
    return {
        name: report(path, caption=f"{CAPTIONS}/{Path(path).stem}.rst", category=category)
        for name, path in figures.items()
    }


rule draw_images:
    input:
        images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=EXPLAINED_SETS),
        tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=EXPLAINED_SETS),
        maps=expand(f"{CDMAM}/saliency/{{method}}.npy", method=EXPLAIN.methods[:3]),
    output:
        **captioned(IMAGE_FIGURES, "1 Images"),
    log:
        f"{LOGS}/draw_images.log",
    benchmark:
        f"{BENCHMARKS}/draw_images.jsonl"
    params:
        code=code("draw_images.py"),
        methods=list(EXPLAIN.methods[:3]),
        images_per_group=EXPLAIN.images,
        phantom={
            "geometry": cdmam.geometry,
            "detector": plain(cdmam.detector),
            "exposure": plain(next(iter(cdmam.scenarios.values()))),
        },
    resources:
        mem_mb=2000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/draw_images.py"


rule draw_predictions:
    input:
        curves=f"{CDMAM}/tables/cdc.csv",
        histories=expand(f"{CDMAM}/models/member-{{member}}/history.csv", member=MEMBERS),
        predictions=f"{CDMAM}/tables/predictions.csv",
        scores=f"{CDMAM}/tables/prediction_scores.csv",
    output:
        **captioned(PREDICTION_FIGURES, "2 Curves and predictions"),
    log:
        f"{LOGS}/draw_predictions.log",
    benchmark:
        f"{BENCHMARKS}/draw_predictions.jsonl"
    params:
        code=code("draw_predictions.py"),
        groups=TEST_SETS,
    resources:
        mem_mb=1000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/draw_predictions.py"


rule draw_maps:
    input:
        images=expand(f"{CDMAM}/samples/{{setting}}/images.npy", setting=EXPLAINED_SETS),
        tables=expand(f"{CDMAM}/samples/{{setting}}/table.parquet", setting=EXPLAINED_SETS),
        maps=expand(f"{CDMAM}/saliency/{{method}}.npy", method=EXPLAIN.methods),
        **(
            {
                "omig_maps": f"{CDMAM}/saliency/omig_parameters.npy",
                "omig_table": f"{CDMAM}/tables/omig_parameters.csv",
            }
            if "omig" in EXPLAIN.methods
            else {}
        ),
    output:
        **captioned(MAP_FIGURES, "3 Explanations of sampled images"),
    log:
        f"{LOGS}/draw_maps.log",
    benchmark:
        f"{BENCHMARKS}/draw_maps.jsonl"
    params:
        code=code("draw_maps.py"),
        methods=list(EXPLAIN.methods),
        images_per_group=EXPLAIN.images,
    resources:
        mem_mb=1000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/draw_maps.py"


rule draw_upsampled:
    input:
        map=f"{CDMAM}/upsampled/{{method}}/{{image}}/map.npy",
        visits=f"{CDMAM}/upsampled/{{method}}/{{image}}/visits.npy",
        standard_error=f"{CDMAM}/upsampled/{{method}}/{{image}}/standard_error.npy",
        disagreement=f"{CDMAM}/upsampled/{{method}}/{{image}}/disagreement.npy",
        counts=f"{CDMAM}/originals/{{image}}/counts.npy",
        structure=f"{CDMAM}/originals/{{image}}/structure.npy",
        facts=f"{CDMAM}/originals/{{image}}/facts.json",
    output:
        map=report(
            f"{FIGURES}/upsampled/{{method}}_{{image}}.png",
            caption="../report/upsampled.rst",
            category="4 Upsampled explanations",
            labels={"method": "{method}", "image": "{image}"},
        ),
        quality=f"{FIGURES}/upsampled/{{method}}_{{image}}_quality.png",
    log:
        f"{LOGS}/draw_upsampled/{{method}}/{{image}}.log",
    benchmark:
        f"{BENCHMARKS}/draw_upsampled/{{method}}/{{image}}.jsonl"
    params:
        code=code("draw_upsampled.py"),
    resources:
        mem_mb=3000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/draw_upsampled.py"


rule draw_checks:
    input:
        curves=expand(f"{CDMAM}/checks/{{image}}_curves.csv", image=UPSAMPLED),
        modified=f"{CDMAM}/tables/modified_image.csv",
        shares=f"{CDMAM}/tables/structure_share.csv",
        designs=f"{CDMAM}/tables/upsampling_designs.csv",
    output:
        **captioned(CHECK_FIGURES, "5 Checks of the explanations"),
    log:
        f"{LOGS}/draw_checks.log",
    benchmark:
        f"{BENCHMARKS}/draw_checks.jsonl"
    params:
        code=code("draw_checks.py"),
    resources:
        mem_mb=1000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/draw_checks.py"
