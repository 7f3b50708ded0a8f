# CDMAM images: simulate or read them, read them out into contrast-detail curves, sample them for the network.
from pathlib import Path

# name -> (exposure, detector, images to read out)
SIMULATED = {
    **{s.name: (s, cdmam.detector, cdmam.readout.images) for s in cdmam.training_settings},
    **{s.name: (s, cdmam.standin_detector, cdmam.readout.images) for s in cdmam.standin_training_settings},
    **{
        group: (
            exposure,
            cdmam.standin_detector if group == "recorded_standin" else cdmam.detector,
            cdmam.readout.images_scenarios,
        )
        for group, exposure in cdmam.scenarios.items()
    },
}
RECORDED = {f"recording_{number}": folder for number, folder in enumerate(cdmam.recordings, 1)}
FINE_TUNING = list(RECORDED) or [s.name for s in cdmam.standin_training_settings]
TRAINING_SETTINGS = [*(s.name for s in cdmam.training_settings), *FINE_TUNING]
SETTINGS = [s for s in SIMULATED if not RECORDED or s not in {e.name for e in cdmam.standin_training_settings}]


def recorded_images(setting):
    """The DICOM files of one folder of recordings, in the order of their names."""
    folder = Path(RECORDED[setting])
    files = sorted(str(path) for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if len(files) < 2:
        raise ValueError(f"{folder}: found {len(files)} files, expected the DICOM files of one exposure setting (16 or more)")
    return files


def simulation(setting):
    """Everything that determines the images of one simulated setting."""
    exposure, detector, readouts = SIMULATED[setting]
    return {
        "exposure": plain(exposure),
        "detector": plain(detector),
        "geometry": cdmam.geometry,
        "seed": study.seed,
        "readouts": readouts,
    }


rule read_out:
    output:
        detections=f"{CDMAM}/readout/{{setting}}/detections.npy",
        images=f"{CDMAM}/readout/{{setting}}/images.csv",
    log:
        f"{LOGS}/read_out/{{setting}}.log",
    benchmark:
        f"{BENCHMARKS}/read_out/{{setting}}.jsonl"
    wildcard_constraints:
        setting="|".join(SIMULATED),
    params:
        code=code("read_out.py"),
        simulation=lambda wildcards: simulation(wildcards.setting),
    resources:
        mem_mb=2000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/read_out.py"


rule sample:
    output:
        images=f"{CDMAM}/samples/{{setting}}/images.npy",
        indices=f"{CDMAM}/samples/{{setting}}/indices.npy",
        table=f"{CDMAM}/samples/{{setting}}/table.parquet",
    log:
        f"{LOGS}/sample/{{setting}}.log",
    benchmark:
        f"{BENCHMARKS}/sample/{{setting}}.jsonl"
    wildcard_constraints:
        setting="|".join(SIMULATED),
    params:
        code=code("sample.py"),
        simulation=lambda wildcards: simulation(wildcards.setting),
        plan=lambda wildcards: sampling_plan(wildcards.setting),
        sampling=plain(cdmam.sampling),
    resources:
        mem_mb=3000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/sample.py"


def sampling_plan(setting):
    """Which images of a setting are sampled: their step or group, margin, and samplings per image."""
    images, margins = cdmam.images, list(cdmam.margins_mm)
    small = 1 + cdmam.small_margins
    if setting in cdmam.scenarios:
        number = images.ood if setting == "ood" else images.recorded_standin if setting == "recorded_standin" else images.test
        part, counts, samplings = "test", {"test": (number, margins)}, 1
    elif setting in {s.name for s in cdmam.standin_training_settings}:
        part, counts, samplings = "train", {"recorded": (images.recorded, margins)}, cdmam.sampling.samplings
    else:
        part, samplings = "train", cdmam.sampling.samplings
        counts = {
            "no_margin": (images.no_margin, margins[:1]),
            "small_margins": (images.small_margins, margins[1:small]),
            "large_margins": (images.large_margins, margins[small:]),
        }
    rows = [
        {"step": step, "margin_mm": chosen[number % len(chosen)]}
        for step, (count, chosen) in counts.items()
        for number in range(count if chosen else 0)
    ]
    return {"part": part, "samplings": samplings, "rows": rows}


if RECORDED:

    rule read_recordings:
        input:
            lambda wildcards: recorded_images(wildcards.setting),
        output:
            detections=f"{CDMAM}/readout/{{setting}}/detections.npy",
            images=f"{CDMAM}/readout/{{setting}}/images.csv",
        log:
            f"{LOGS}/read_recordings/{{setting}}.log",
        benchmark:
            f"{BENCHMARKS}/read_recordings/{{setting}}.jsonl"
        wildcard_constraints:
            setting="|".join(RECORDED),
        params:
            code=code("read_recordings.py"),
        resources:
            mem_mb=2000,
        conda:
            "../../envs/xiqa.yaml"
        script:
            "../scripts/read_recordings.py"

    rule sample_recordings:
        input:
            lambda wildcards: recorded_images(wildcards.setting),
        output:
            images=f"{CDMAM}/samples/{{setting}}/images.npy",
            indices=f"{CDMAM}/samples/{{setting}}/indices.npy",
            table=f"{CDMAM}/samples/{{setting}}/table.parquet",
        log:
            f"{LOGS}/sample_recordings/{{setting}}.log",
        benchmark:
            f"{BENCHMARKS}/sample_recordings/{{setting}}.jsonl"
        wildcard_constraints:
            setting="|".join(RECORDED),
        params:
            code=code("sample_recordings.py"),
            sampling={
                **plain(cdmam.sampling),
                "seed": study.seed,
                "training_samplings": cdmam.images.recorded,
            },
            split=lambda wildcards: recording_part(wildcards.setting),
        resources:
            mem_mb=3000,
        conda:
            "../../envs/xiqa.yaml"
        script:
            "../scripts/sample_recordings.py"


def recording_part(setting):
    """The part of a folder of recordings: split by setting; a single setting is split by image, as in the paper."""
    if len(RECORDED) == 1:
        return "by_image"
    return "test" if list(RECORDED).index(setting) % 3 == 0 else "train"


rule fit_curves:
    input:
        detections=expand(f"{CDMAM}/readout/{{setting}}/detections.npy", setting=[*SETTINGS, *RECORDED]),
    output:
        curves=f"{CDMAM}/tables/cdc.csv",
        variation=f"{CDMAM}/tables/cdc_variation.csv",
    log:
        f"{LOGS}/fit_curves.log",
    benchmark:
        f"{BENCHMARKS}/fit_curves.jsonl"
    params:
        code=code("fit_curves.py"),
        settings=[*SETTINGS, *RECORDED],
        readout={
            "human": cdmam.readout.human,
            "bootstrap": cdmam.readout.bootstrap,
            "seed": study.seed,
        },
    resources:
        mem_mb=1000,
    conda:
        "../../envs/xiqa.yaml"
    script:
        "../scripts/fit_curves.py"
