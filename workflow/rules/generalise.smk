# The study in which the shortcut cannot win: drawn settings, the paper's network beside one of the full resolution.
rule generalise_setting:
    output:
        sampled=f"{GENERALISE}/settings/{{setting}}/sampled.npy",
        cells=f"{GENERALISE}/settings/{{setting}}/cells.npy",
        curves=f"{GENERALISE}/settings/{{setting}}/curves.csv",
    log:
        f"{LOGS}/generalise_setting/{{setting}}.log",
    benchmark:
        f"{BENCHMARKS}/generalise_setting/{{setting}}.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=2000,
    params:
        code=code("data/generalise_setting.py"),
        plan=lambda wildcards: general_plan(wildcards.setting),
    script:
        "../scripts/data/generalise_setting.py"


for kind in KINDS:

    rule:
        name:
            f"generalise_train_{kind}"
        input:
            images=expand(f"{GENERALISE}/settings/{{setting}}/{kind}.npy", setting=GENERAL_PARTS.get("train", [])),
            curves=expand(f"{GENERALISE}/settings/{{setting}}/curves.csv", setting=GENERAL_PARTS.get("train", [])),
        output:
            weights=f"{GENERALISE}/models/{kind}/member-{{member}}/weights.safetensors",
            history=f"{GENERALISE}/models/{kind}/member-{{member}}/history.csv",
            model=f"{GENERALISE}/models/{kind}/member-{{member}}/model.json",
        log:
            f"{LOGS}/generalise_train/{kind}-{{member}}.log",
        benchmark:
            f"{BENCHMARKS}/generalise_train/{kind}-{{member}}.jsonl"
        conda:
            "../../envs/xiqa.yaml"
        threads: study.compute.threads
        resources:
            mem_mb=3000,
            gpu=1 if study.compute.device == "cuda" else 0,
        params:
            code=code("train/generalise_train.py"),
            kind=kind,
            training={
                "network": plain(getattr(GENERAL, kind)),
                "training": plain(getattr(GENERAL, f"{kind}_training"), "members"),
                "seed": study.seed,
                "device": study.compute.device,
            },
        script:
            "../scripts/train/generalise_train.py"


rule generalise_score:
    input:
        **{kind: general_models(kind) for kind in KINDS},
        curves=expand(f"{GENERALISE}/settings/{{setting}}/curves.csv", setting=GENERAL_SETTINGS),
    output:
        points=f"{GENERALISE}/tables/generalise.csv",
        scores=f"{GENERALISE}/tables/scores.csv",
        calibration=f"{GENERALISE}/tables/calibration.csv",
    log:
        f"{LOGS}/generalise_score.log",
    benchmark:
        f"{BENCHMARKS}/generalise_score.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=4000,
    params:
        code=code("score/generalise_score.py"),
        folder=f"{GENERALISE}/settings",
        parts=GENERAL_PARTS,
        groups=GENERAL_GROUPS,
    script:
        "../scripts/score/generalise_score.py"


rule generalise_explain:
    input:
        **{kind: general_models(kind) for kind in KINDS},
    output:
        shares=f"{GENERALISE}/tables/shares.csv",
        summary=f"{GENERALISE}/tables/shares_summary.csv",
    log:
        f"{LOGS}/generalise_explain.log",
    benchmark:
        f"{BENCHMARKS}/generalise_explain.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    threads: study.compute.threads
    resources:
        mem_mb=4000,
    params:
        code=code("explain/generalise_explain.py", module_of("omig"), entries=["omig"]),
        images=general_explained(),
        omig=plain(cdmam.explain.omig),
        samplings=GENERAL.samplings,
        compute=ENSEMBLE,
    script:
        "../scripts/explain/generalise_explain.py"


rule generalise_report:
    input:
        scores=f"{GENERALISE}/tables/scores.csv",
        summary=f"{GENERALISE}/tables/shares_summary.csv",
    output:
        figure=report(f"{GENERALISE}/figures/generalise.png", caption="../report/generalise.rst", category="CDMAM"),
        page=report(f"{GENERALISE}/findings.html", caption="../report/findings.rst", category="0 Findings"),
        text=f"{GENERALISE}/findings.md",
    log:
        f"{LOGS}/generalise_report.log",
    benchmark:
        f"{BENCHMARKS}/generalise_report.jsonl"
    conda:
        "../../envs/xiqa.yaml"
    resources:
        mem_mb=500,
    params:
        code=code("report/generalise_report.py"),
        study=study.study,
    script:
        "../scripts/report/generalise_report.py"


# Only this study: `snakemake generalise --cores all --configfile config/generalise.yaml`.
rule generalise:
    input:
        GENERAL_RESULTS,
