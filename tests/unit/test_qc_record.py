"""Records of exposure settings: how images are sorted, what a record says, and that it survives being written."""

import dataclasses
import json

import numpy as np
import pypdf
import pypdfium2
import pytest
from qc_settings import analysed, options, read_images, registration, setting_of

from xiqa.cdmam.curve import fit_curve
from xiqa.qc.analysis import analyse
from xiqa.qc.constancy import constancy
from xiqa.qc.files import publish
from xiqa.qc.limits_file import Limits, load_limits
from xiqa.qc.load import cluster, settings_of
from xiqa.qc.overlay import image_pictures, lost_phantom
from xiqa.qc.record import Record, document, read_record
from xiqa.qc.summary import summary


@pytest.fixture(scope="module")
def good():
    return analysed(scale=0.7)


# --- sorting by exposure setting -------------------------------------------------------------------------------------


def of_header(**header):
    return read_images(1, **header)


def names(images):
    return {setting.name: len(setting.images) for setting in settings_of(images)}


def test_settings_are_told_apart_by_header_and_named_as_shortly_as_that_allows():
    usual = read_images(3)
    assert names(usual) == {"W-Rh_28kV_100mAs": 3}
    assert names([*usual, *of_header(filter="Ag")]) == {"W-Rh_28kV_100mAs": 3, "W-Ag_28kV_100mAs": 1}
    assert names([*usual, *of_header(tube_voltage_kv=30.0)]) == {"W-Rh_28kV_100mAs": 3, "W-Rh_30kV_100mAs": 1}
    assert names([*usual, *of_header(pixel_mm=0.05)]) == {"W-Rh_28kV_100mAs_0.07mm": 3, "W-Rh_28kV_100mAs_0.05mm": 1}
    assert names([*usual, *of_header(for_presentation=True)]) == {
        "W-Rh_28kV_100mAs_for_processing": 3, "W-Rh_28kV_100mAs_for_presentation": 1,
    }  # fmt: skip
    assert names([*usual, *of_header(intensity_relationship="LOG")]) == {
        "W-Rh_28kV_100mAs_LIN": 3, "W-Rh_28kV_100mAs_LOG": 1,
    }  # fmt: skip
    assert names([*usual, *of_header(system="Other / 2")]) == {
        "W-Rh_28kV_100mAs_Maker-Model": 3, "W-Rh_28kV_100mAs_Other-2": 1,
    }  # fmt: skip
    assert names([*usual, *of_header(serial_number="18")]) == {"W-Rh_28kV_100mAs_17": 3, "W-Rh_28kV_100mAs_18": 1}
    unknown = of_header(tube_voltage_kv=None, exposure_mas=None, anode=None, filter=None)
    assert names([*usual, *unknown]) == {"W-Rh_28kV_100mAs": 3, "setting": 1}


def test_an_exposure_control_stays_within_one_setting_and_a_dose_series_does_not():
    controlled = [image for mas in (95, 98, 101, 104, 108) for image in of_header(exposure_mas=float(mas))]
    assert names(controlled) == {"W-Rh_28kV_101mAs": 5}
    series = [image for mas in (50, 80, 100, 160) for image in of_header(exposure_mas=float(mas))]
    assert list(names(series)) == ["W-Rh_28kV_100mAs", "W-Rh_28kV_160mAs", "W-Rh_28kV_50mAs", "W-Rh_28kV_80mAs"]
    assert [len(group) for group in cluster([3.0, 1.0, None, 1.05], lambda _: 0, lambda mas: mas)] == [2, 1, 1]


def test_all_images_are_one_setting_where_the_user_says_so_and_the_record_says_what_differs():
    mixed = [*read_images(2), *of_header(tube_voltage_kv=30.0, filter="Ag", pixel_mm=0.05, exposure_mas=150.0)]
    record = analyse(setting_of(mixed), options(bootstrap=0)).record
    assert (record.exposure.tube_voltage_kv, record.exposure.filter, record.exposure.anode) == (None, None, "W")
    for words in (
        "tube voltage (kV): 28, 30", "target and filter: W/Ag, W/Rh", "pixel size (mm): 0.05, 0.07", "100 to 150 mAs",
    ):  # fmt: skip
        assert any(words in warning for warning in record.warnings), words


def test_presentation_log_pixels_unknown_exposure_and_several_days_are_warned_about_by_name():
    processed = analysed(2, bootstrap=0, for_presentation=True, intensity_relationship="LOG").record.warnings
    assert any("FOR PRESENTATION" in words for words in processed)
    assert any("LOG" in words for words in processed)
    unknown = analysed(2, bootstrap=0, tube_voltage_kv=None).record.warnings
    assert any("do not give tube voltage" in words for words in unknown)
    days = [*read_images(1), *read_images(1, seed=1, date="2026-01-17")]
    warned = analyse(setting_of(days), options(bootstrap=0)).record.warnings
    assert "the images are of 2 days, 2026-01-15 to 2026-01-17" in warned
    assert not any("days" in words or "kV" in words for words in analysed(16, bootstrap=0).record.warnings)


def test_an_unusual_image_is_named():
    images = read_images(3)
    odd = registration(discs_visible=False, residual_mm=0.2)
    images[1] = dataclasses.replace(images[1], reading=dataclasses.replace(images[1].reading, registration=odd))
    record = analyse(setting_of(images), options(bootstrap=0)).record
    assert any(words.startswith("image_0_01: no discs stand out") for words in record.warnings)
    assert any(words.startswith("image_0_01: the grid lines lie 0.20 mm") for words in record.warnings)
    assert [len(image.warnings) for image in record.images] == [0, 2, 0]
    images[2] = dataclasses.replace(
        images[2], reading=dataclasses.replace(images[2].reading, registration=registration(residual_mm=0.3))
    )
    record = analyse(setting_of(images), options(bootstrap=0)).record
    assert any(words.startswith("image_0_01, image_0_02: the grid lines lie 0.20 mm") for words in record.warnings)


# --- the record ------------------------------------------------------------------------------------------------------


def test_a_record_holds_the_curve_that_its_matrices_give(good):
    record = good.record
    corner = np.array([[[{"1": 1, "2": 2, ".": -1}[c] for c in row] for row in i.corner] for i in record.images])
    expected = fit_curve(corner, bootstrap=60)
    np.testing.assert_array_equal([point.cdc_um for point in record.curve], expected["cdc_um"])
    np.testing.assert_array_equal([p.t_auto_um for p in record.curve], expected["t_auto_um"])
    alone = fit_curve(corner[3:4], bootstrap=0)["cdc_um"]
    np.testing.assert_array_equal(record.images[3].cdc_um, alone)
    assert record.iqf_inverse == pytest.approx(100 / (expected["cdc_um"] * expected["diameter_mm"]).sum())
    assert 0.005 < record.iqf_log_error < 0.08
    at_half = record.psychometric[3]
    middle = 0.25 + 0.75 / 2
    assert at_half.diameter_mm == 0.5
    assert np.interp(at_half.threshold_um, at_half.thickness_um, at_half.smoothed) == pytest.approx(middle, abs=0.06)


def test_contrast_goes_with_the_signals_and_its_ratio_to_the_noise_does_not():
    image = read_images(1)[0].reading
    found = constancy(image)
    sizes = np.array([0.63, 0.50, 0.40, 0.31, 0.25, 0.20, 0.16, 0.13])
    assert found.disc_contrast == pytest.approx(np.exp(np.log(sizes**1.5 / 0.002).mean()), rel=0.03)
    assert found.contrast_to_noise == pytest.approx(found.disc_contrast, rel=0.1)  # the noise is 1
    half = dataclasses.replace(image, scores=image.scores / 2, centre_scores=image.centre_scores / 2)
    assert constancy(half) == pytest.approx((found.disc_contrast / 2, found.contrast_to_noise), rel=1e-6)
    assert constancy(dataclasses.replace(image, centre_scores=-2 * image.centre_scores)) is None


def test_a_record_survives_being_written_and_read(good, tmp_path):
    (tmp_path / "results.json").write_text(good.record.to_json(), encoding="utf-8")
    assert read_record(tmp_path / "results.json") == good.record
    assert Record.model_validate(good.record.model_dump(mode="json")) == good.record


def test_what_is_no_record_is_refused_with_its_file(good, tmp_path):
    path = tmp_path / "results.json"
    content = json.loads(good.record.to_json())
    for change, words in (
        (lambda c: c | {"schema_version": "0.9"}, "schema version 0.9, expected 1.0"),
        (lambda c: c | {"patient": "Doe"}, "patient"),
        (lambda c: c | {"curve": [{"diameter_mm": "wide"}]}, "curve"),
        (lambda c: [c], "schema version None"),
    ):
        path.write_text(json.dumps(change(content)))
        with pytest.raises(ValueError, match=words) as refused:
            read_record(path)
        assert "results.json" in str(refused.value)
    path.write_text("no JSON")
    with pytest.raises(ValueError, match="no JSON"):
        read_record(path)


def test_the_documents_of_the_schema_are_those_of_the_code(root):
    assert (root / "docs/reference/record.md").read_text(encoding="utf-8") == document()
    assert (
        json.loads((root / "docs/reference/record.schema.json").read_text(encoding="utf-8"))
        == Record.model_json_schema()
    )


@pytest.mark.parametrize(("scale", "verdict"), [(0.7, "met"), (1.0, "not determined"), (2.5, "exceeded")])
def test_the_verdict_is_that_of_the_limit_that_decides(scale, verdict):
    usual = {point.diameter_mm: point.cdc_um for point in analysed(seed=1, bootstrap=0).record.curve}
    limits = Limits(name="own", decides="half", limits_um={"half": {d: usual[d] for d in (0.5, 0.25)}})
    how = options(bootstrap=60).model_copy(update={"limits": limits})
    record = analyse(setting_of(read_images(16, scale)), how).record
    assert record.verdict == record.limits[0].verdict == verdict
    assert f"half limit {verdict}" in summary(record)


def test_a_single_image_has_no_verdict_by_counting():
    record = analysed(1).record
    assert record.verdict == "not determined"
    assert record.iqf_log_error is None
    assert {point.ci_high_um for point in record.curve} == {None}


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_packaged_limits_are_the_european_ones():
    limits = load_limits()
    assert limits.decides == "acceptable"
    assert limits.limits_um["acceptable"] == {1.0: 0.091, 0.5: 0.150, 0.25: 0.352, 0.1: 1.68}
    assert limits.limits_um["achievable"] == {1.0: 0.056, 0.5: 0.103, 0.25: 0.244, 0.1: 1.10}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\ndecides: a\nlimits_um: {a: {0.33: 1}}", r"\[0.33\] mm, expected some of the curve's"),
        ("name: x\ndecides: b\nlimits_um: {a: {0.5: 1}}", "decides"),
        ("name: x\ndecides: a\nlimits_um: {a: {0.5: -1}}", "greater than 0"),
        ("name: x\ndecides: a\nlimits_um: {a: {}}", "expected some of the curve's"),
        ("name: x\ndecides: a\nlimits_um: {a: {0.5: 1}}\nlimit: 3", "limit: Extra inputs"),
        ("[1, 2]", "limits"),
        ("a: [", "no YAML"),
    ],
)
def test_limits_that_cannot_be_used_are_refused_with_the_file(tmp_path, text, words):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ValueError, match=words) as refused:
        load_limits(tmp_path / "own.yaml")
    assert "own.yaml" in str(refused.value)


# --- the PDF and the pictures ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pdf(good, tmp_path_factory):
    path = tmp_path_factory.mktemp("pdf") / "qa.pdf"
    publish(path, good)
    return path


def test_the_pdf_says_the_verdict_first_and_nothing_of_a_patient(good, pdf):
    pages = [page.extract_text() for page in pypdf.PdfReader(pdf).pages]
    words = "Acceptable limit: met"
    assert words in pages[0]
    assert pages[0].index(words) < pages[0].index("0.25")
    assert all("Not a medical device" in page for page in pages)
    assert all(f"page {number} of {len(pages)}" in page for number, page in enumerate(pages, 1))
    whole = "\n".join(pages)
    for part in ("W-Rh_28kV_100mAs", "Maker Model", "MAMMO1", "2026-01-15", "28 kV", "100 mAs", "0.07 mm"):
        assert part in whole
    for image in good.record.images:
        assert image.name in whole
    assert good.record.provenance.images_digest in whole
    assert "Patient" not in whole


def test_rendered_pages_keep_their_margins_and_show_the_verdict_and_the_pictures(pdf):
    pages = [page.render(scale=1).to_numpy()[..., ::-1].astype(int) for page in pypdfium2.PdfDocument(pdf)]
    margin = int(17 / 25.4 * 72)
    for page in pages:
        assert page.shape == (842, 596, 3)
        inked = np.argwhere((page < 250).any(axis=2))
        assert inked[:, 1].min() >= margin
        assert inked[:, 1].max() < 596 - margin
    assert (np.abs(pages[0] - [0, 122, 90]).max(axis=2) < 12).mean() > 0.05  # the verdict is green
    coloured = [(np.ptp(page, axis=2) > 40).mean() for page in pages]
    # Verdict and curve; psychometric fits; rings, crosses and grid over the image; tables.
    for share, least in zip(coloured, (0.06, 0.005, 0.03, 0), strict=True):
        assert share >= least


def test_a_pdf_holds_names_and_warnings_in_any_script(tmp_path):
    analysis = analysed(2, bootstrap=0, system="Gerät & Söhne <Ω>", station="Žilina", for_presentation=True)
    publish(tmp_path / "qa.pdf", analysis)
    whole = "\n".join(page.extract_text() for page in pypdf.PdfReader(tmp_path / "qa.pdf").pages)
    assert "Gerät & Söhne <Ω>" in whole
    assert "Žilina" in whole
    assert "FOR PRESENTATION" in whole
    assert "not determined" in whole


def test_pictures_are_png_of_the_image_with_a_legend(good):
    image = good.setting.images[0]
    pictures = image_pictures(image)
    assert sorted(pictures) == ["grid", "hits"]
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
    lost = lost_phantom(image.picture, 100)
    assert lost.width == image.picture.shape[1]
    assert lost.height > image.picture.shape[0]
