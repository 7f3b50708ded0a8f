"""Records beside each other: two compared, many followed over months, and all exported."""

import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
import yaml
from qc_settings import analysed, hit_rates, options, read_images, setting_of

from xiqa import cli
from xiqa.qc.analysis import analyse
from xiqa.qc.compare import agreement, correlation, find_records, log_error, one_against_many, pairs_of, ratios, remarks
from xiqa.qc.figures import plot_agreement, plot_ratios, plot_trend
from xiqa.qc.quaac import add_to_quaac
from xiqa.qc.trend import chance_limits, control_chart, trends_of

MONTHS = [f"2026-{month:02d}-15" for month in range(1, 13)]


@pytest.fixture(scope="module")
def records():
    """Twelve stable months; the last six are there again with a system that became worse."""
    stable = [analysed(8, seed=k, bootstrap=30, date=date).record for k, date in enumerate(MONTHS)]
    worse = [
        analysed(8, 1.08 ** (k + 1), seed=20 + k, bootstrap=30, date=date).record for k, date in enumerate(MONTHS[6:])
    ]
    return stable, [*stable[:6], *worse]


def write(folder, records):
    for number, record in enumerate(records):
        (folder / f"{number:02d}").mkdir(parents=True)
        (folder / f"{number:02d}" / "results.json").write_text(record.to_json(), encoding="utf-8")
    return folder


# --- two records -----------------------------------------------------------------------------------------------------


def test_the_ratio_of_two_curves_has_the_interval_of_both(records):
    good, worse = records[1][0], records[1][-1]
    table = ratios(worse, good).set_index("diameter_mm")
    assert table.loc[0.25, "verdict"] == "higher"
    assert table.loc[0.25, "ratio"] == pytest.approx(1.08**6, rel=0.15)
    a, b = (next(p for p in r.curve if p.diameter_mm == 0.25) for r in (worse, good))
    widths = [np.log(p.ci_high_um / p.ci_low_um) for p in (a, b)]
    assert np.log(table.loc[0.25, "ci_high"] / table.loc[0.25, "ci_low"]) == pytest.approx(np.hypot(*widths))
    same = ratios(good, good)
    measured = same["verdict"] != "not measured"
    assert (same["ratio"][measured] == 1).all()
    assert set(same["verdict"][measured]) == {"no difference shown"}


def test_the_same_images_read_by_two_readers_are_pairs():
    rng, images = np.random.default_rng(0), read_images(16)
    others = []
    for image in images:
        reading = image.reading
        again = np.where(rng.random((16, 16)) < hit_rates(), 1, 2)
        corner = np.where((rng.random((16, 16)) < 0.25) & (reading.corner > 0), again, reading.corner)
        other = dataclasses.replace(reading, corner=corner.astype(np.int8))
        others.append(dataclasses.replace(image, reading=other))
    one, two, half = (analyse(setting_of(read), options(bootstrap=60)).record for read in (images, others, others[:8]))
    # A quarter of the decisions is made anew. Over 50 such pairs of readers the interval covered 94 % of the ratios.
    assert 0.5 < correlation(one, two) < 0.85
    assert correlation(one, half) == pytest.approx(correlation(one, two) * np.sqrt(0.5), abs=0.15)
    table = ratios(one, two).set_index("diameter_mm")
    a, b = (log_error(next(p for p in record.curve if p.diameter_mm == 0.25)) for record in (one, two))
    error = np.sqrt(a**2 + b**2 - 2 * correlation(one, two) * a * b)
    assert np.log(table.loc[0.25, "ci_high"] / table.loc[0.25, "ci_low"]) == pytest.approx(2 * 1.959964 * error)
    same = ratios(one, one)
    np.testing.assert_allclose(same.loc[same["verdict"] != "not measured", ["ci_low", "ci_high"]], 1, rtol=1e-6)
    assert not remarks(one, two)
    few = analyse(setting_of(images[:3]), options(bootstrap=60)).record
    assert correlation(one, few) == 0
    assert remarks(one, few)[0].startswith("3 images are in both records, too few")


def test_an_interval_with_one_end_tells_the_error_by_it(records):
    point = records[0][0].curve[3]
    one_ended = point.model_copy(update={"cdc_um": 0.1, "ci_low_um": 0.0, "ci_high_um": 0.1 * np.exp(1.959964 * 0.2)})
    assert log_error(one_ended) == pytest.approx(0.2)
    assert log_error(one_ended.model_copy(update={"ci_low_um": 0.08, "ci_high_um": None})) == pytest.approx(
        np.log(1.25) / 1.959964
    )
    assert np.isnan(log_error(point.model_copy(update={"ci_low_um": None, "ci_high_um": None})))


def test_a_censored_point_has_no_ratio():
    best = analysed(4, 0.3, bootstrap=20).record
    table = ratios(best, best)
    censored = [point.censored for point in best.curve]
    assert any(censored)
    assert list(table["verdict"] == "not measured") == censored
    assert table["ratio"][censored].isna().all()


def test_one_image_against_many_has_bias_and_limits_of_agreement(records):
    record = records[0][0]
    each = one_against_many(record, record)
    table = agreement(each)
    logs = np.log(each["ratio"])
    assert table["bias"].iloc[-1] == pytest.approx(np.exp(logs.mean()))
    assert table["upper"].iloc[-1] / table["lower"].iloc[-1] == pytest.approx(np.exp(2 * 1.959964 * logs.std()))
    assert table["images"].iloc[-1] == 8
    assert np.isnan(table["diameter_mm"].iloc[-1])
    inside = (each["ratio"] > table["lower"].iloc[-1]) & (each["ratio"] < table["upper"].iloc[-1])
    assert 0.9 < inside.mean() <= 1
    for figure in (plot_agreement(each, table), plot_ratios(record, record, ratios(record, record), ["A", "B"])):
        assert figure.axes


def test_records_are_paired_by_setting():
    one, other = (analysed(2, bootstrap=0, tube_voltage_kv=kv).record for kv in (28.0, 30.0))
    assert pairs_of({"a": one}, {"b": other}) == [(one, other)]
    assert pairs_of({"a": one, "b": other}, {"c": other}) == [(other, other)]
    with pytest.raises(ValueError, match="W-Rh_28kV_100mAs and W-Rh_30kV_100mAs, W-Rh_30kV_100mAs"):
        pairs_of({"a": one}, {"b": other, "c": other})


def test_compare_writes_tables_and_figures(records, tmp_path, capsys):
    write(tmp_path / "in", [records[1][0], records[1][-1]])
    words = ["compare", str(tmp_path / "in/01/results.json"), str(tmp_path / "in/00"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "higher: " in said
    assert "one image of A over all of B" in said
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["agreement.csv", "agreement.png", "compare.csv", "compare.png"]
    assert cli.main(["compare", str(tmp_path / "none"), str(tmp_path / "in"), "--out", str(tmp_path)]) == 1
    assert "found no such file or folder" in capsys.readouterr().err


# --- many records ----------------------------------------------------------------------------------------------------


def charted(logs, error, name="contrast"):
    return [control_chart(name, np.exp(values), np.full(len(values), error)) for values in logs]


def test_deviations_from_the_records_before_are_independent_and_of_one_variance():
    logs = np.random.default_rng(0).normal(3, 0.05, (200, 12))
    last = np.array([chart.average[-1] for chart in charted(logs, 0.05)])
    # An average with weight 0.3 of independent residuals has variance 0.3 / 1.7.
    assert last.std() == pytest.approx(0.05 * np.sqrt(0.3 / 1.7), rel=0.12)


@pytest.mark.parametrize(
    ("name", "factor"), [("contrast", 1), ("contrast", 3), ("contrast", 30), ("cnr", 1), ("cnr", 2)]
)
def test_a_stable_system_seldom_alarms_however_much_records_spread_beside_their_intervals(name, factor):
    # The first records count as much as later ones.
    logs = np.random.default_rng(1).normal(3, 0.05, (150, 12))
    alarmed = np.array([chart.alarm for chart in charted(logs, 0.05 / factor, name)])
    assert not alarmed[:, :3].any()
    assert alarmed[:, 3:].mean() < 0.01


def test_limits_become_those_of_the_normal_distribution_with_many_records():
    rng = np.random.default_rng(3)
    for spread, error in ((0.02, 0.02), (0.02, 0.002), (0.02, np.nan)):
        limits = chance_limits(rng.normal(0, spread, 2000), np.full(2000, error), (0.05, 0.002), 1)
        np.testing.assert_allclose(limits, spread * np.array([1.96, 3.09]), rtol=0.05)


@pytest.mark.parametrize(("stable", "by", "share"), [(6, 5, 0.99), (3, 6, 0.99), (0, 6, 0.8)])
def test_a_slow_loss_of_15_percent_of_the_dose_alarms_within_six_records(stable, by, share):
    # The discs' contrast goes with the dose; of 16 images its error is 0.4 %, and the exposure control adds 1 %.
    # Measured by simulation of images in tests/benchmarks/trend_alarms.py.
    rng = np.random.default_rng(2)
    dose = np.concatenate([np.ones(stable), np.linspace(0.975, 0.85, 6)])
    logs = np.log(dose) + rng.normal(0, np.hypot(0.004, 0.01), (150, len(dose)))
    charts = charted(logs, 0.004)
    assert np.mean([chart.alarm[: stable + by].any() for chart in charts]) >= share
    change, low, high = np.mean([chart.changes[-1] for chart in charts], axis=0)
    assert low < 0.85 < high
    assert change == pytest.approx(0.86 if stable else 0.87, abs=0.02)


def test_equal_records_are_no_alarm():
    (chart,) = charted([np.full(8, 2.0)], 0.0)
    assert not chart.alarm.any()


@pytest.mark.long
@pytest.mark.ci
def test_a_system_that_becomes_worse_alarms_and_a_stable_one_does_not(records, tmp_path, capsys):
    stable, worse = records
    assert not trends_of(stable)[0].alarm.any()
    (trend,) = trends_of(worse)
    assert trend.alarm[-1]
    assert not trend.alarm[:6].any()
    assert trend.dates == tuple(MONTHS)
    assert plot_trend(trend).axes
    assert cli.main(["trend", str(write(tmp_path / "worse", worse)), "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr().out
    change = r"-\d+\.\d % at the last of them \(95 % interval -\d+\.\d to -\d+\.\d %\)"
    assert re.search(rf"alarm \S+ to 2026-12-15 \(\d records\): contrast-to-noise ratio fell \(worse\), {change}", said)
    assert re.search(rf"contrast of the discs \(counts\) fell, {change}", said)
    assert cli.main(["trend", str(write(tmp_path / "stable", stable)), "--out", str(tmp_path / "out")]) == 0
    assert "no alarm" in capsys.readouterr().out
    assert cli.main(["trend", str(tmp_path / "stable/00"), "--out", str(tmp_path / "out")]) == 4
    assert "too few records" in capsys.readouterr().out


def test_the_same_images_count_once_the_newest_analysis(records):
    first = records[0][0]
    later = first.model_copy(
        update={
            "iqf_inverse": 1.0,
            "provenance": first.provenance.model_copy(update={"analysed": "2031-01-01T00:00:00Z"}),
        }
    )
    (trend,) = trends_of([later, *records[0], first])
    assert len(trend.records) == 12
    assert trend.records[0].iqf_inverse == 1.0


def test_settings_and_systems_have_charts_of_their_own():
    kinds = [{}, {"tube_voltage_kv": 30.0}, {"serial_number": "18"}, {"exposure_mas": 200.0}]
    trends = trends_of([analysed(2, bootstrap=0, seed=k, **kind).record for k, kind in enumerate(kinds)])
    assert len(trends) == 4
    # The exposure that a drifting control chooses stays in one chart.
    drifting = [analysed(2, bootstrap=0, seed=k, exposure_mas=100.0 * 0.95**k, date=MONTHS[k]).record for k in range(4)]
    assert len(trends_of(drifting)) == 1


def test_records_are_found_below_a_folder_and_others_refused(records, tmp_path):
    write(tmp_path, records[0][:2])
    assert sorted(find_records(tmp_path)) == ["00/results.json", "01/results.json"]
    (tmp_path / "02").mkdir()
    (tmp_path / "02" / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="schema version None"):
        find_records(tmp_path)


# --- QuAAC -----------------------------------------------------------------------------------------------------------


def test_quaac_holds_each_measurement_once_under_its_digest(records, tmp_path):
    path = tmp_path / "qa.yaml"
    first, second = records[0][:2]
    assert add_to_quaac(path, [first], "A. Physicist", "a@hospital.org") == (15, 0)
    assert add_to_quaac(path, [first, second], "B. Physicist", "b@hospital.org") == (15, 15)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["version"] == "1.0"
    assert len(document["datapoints"]) == 30
    assert [len(document[kind]) for kind in ("equipment", "users", "attachments")] == [2, 2, 0]
    point = next(p for p in document["datapoints"] if "0.25 mm" in p["name"])
    assert point["perform datetime"] == "2026-01-15T00:00:00"
    assert (point["measurement unit"], point["reference value"]) == ("µm", 0.352)
    assert point["measurement value"] == next(p.cdc_um for p in first.curve if p.diameter_mm == 0.25)
    assert point["primary equipment"] in {f"({entry['name']}) {entry['hash']}" for entry in document["equipment"]}
    for entry in [*document["equipment"], *document["users"], *document["datapoints"]]:
        content = {key.replace(" ", "_"): value for key, value in entry.items() if key != "hash"}
        assert entry["hash"] == hashlib.md5(json.dumps(content, sort_keys=True).encode()).hexdigest()


def test_a_file_that_is_no_quaac_document_is_left_alone(records, tmp_path):
    (tmp_path / "other.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match="no QuAAC document"):
        add_to_quaac(tmp_path / "other.yaml", records[0][:1], "A", "a@b.org")
    assert (tmp_path / "other.yaml").read_text() == "a: 1"
