"""Evaluation by people: blinded cases, the offline form in a browser, and simulated readers of known skill."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xiqa.cli import main
from xiqa.files import read_json, read_table, write_array, write_table
from xiqa.reader_study.analyse import Answers, accuracy_by_arm, compare_arms, describe, read_answers, reader_agreement
from xiqa.reader_study.export import ANSWER_COLUMNS, Material, export, material
from xiqa.reader_study.plan import assign, choose_cases

CHROMIUM = shutil.which("chromium")
"""The system's; playwright's own where there is none."""
CLASSES = ["good", "motion"]
ARMS = ["image", "map:gradient"]


def make_material(number: int = 60, patients: int = 30) -> Material:
    draw = np.random.default_rng(0)
    cases = pd.DataFrame(
        {
            "image": [f"image-{k}" for k in range(number)],
            "patient": [f"{k % patients:012x}" for k in range(number)],
            "label_name": [CLASSES[k // patients % 2 if k % 3 else k % 2] for k in range(number)],
            "row": np.arange(number),
            "predicted": [CLASSES[k % 2] for k in range(number)],
            "probability": 0.75,
        }
    )
    maps = {"gradient": draw.standard_normal((number, 16, 16)).astype(np.float32)}
    return Material(cases, draw.random((number, 16, 16)).astype(np.float16), maps, CLASSES, "net, seed 0", "simulated")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("readers") / "study"
    export(make_material(), out, arms=ARMS, task="label", cases=20, readers=4, seed=5)
    return out


def answered(study: Path, reader: int, skill, seed: int = 0) -> str:
    """The file of a simulated reader, who is right with a probability that depends on the arm."""
    draw, key = np.random.default_rng((seed, reader)), read_table(study / "key/key.csv")
    stream = io.StringIO()
    rows = csv.writer(stream)
    rows.writerow(ANSWER_COLUMNS)
    digest = read_json(study / "study.json")["digest"]
    for row in key[key["reader"] == reader].itertuples():
        right = draw.random() < (skill[row.arm] if isinstance(skill, dict) else skill)
        answer = row.truth if right else next(name for name in CLASSES if name != row.truth)
        rows.writerow([digest, reader, row.position, row.id, answer, 3, 4.5])
    return stream.getvalue()


def write_answers(study: Path, folder: Path, skill, readers=range(1, 5), seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"reader-{reader}.csv" for reader in readers]
    for reader, path in zip(readers, paths, strict=True):
        path.write_text(answered(study, reader, skill, seed))
    return paths


def test_each_reader_sees_each_case_once_each_arm_equally_often_and_each_case_comes_in_each_arm():
    arms = ["a", "b", "c"]
    found = assign(30, arms, 3, 0)
    first = found[~found["repeat"]]
    assert (first.groupby("reader")["case"].nunique() == 30).all()
    assert (first.groupby(["reader", "arm"]).size() == 10).all()
    assert (first.groupby("case")["arm"].nunique() == 3).all()
    again = found[found["repeat"]]
    assert (again.groupby("reader").size() == 3).all()
    both = again.merge(first, on=["reader", "case"], suffixes=("", "_first"))
    assert (both["arm"] == both["arm_first"]).all()
    assert (both["position"] - both["position_first"]).min() > 10
    orders = first.pivot(index="position", columns="reader", values="case")
    assert not (orders[1] == orders[2]).all()


def test_cases_are_of_as_many_patients_and_as_even_over_labels_as_there_are():
    table = make_material().cases
    chosen = choose_cases(table, 20, 1)
    assert chosen["patient"].nunique() == 20
    assert chosen["label_name"].value_counts().max() <= 11
    with pytest.raises(ValueError, match="found 60 explained test images, expected 61; ask for fewer with --cases"):
        choose_cases(table, 61, 1)


def test_what_readers_get_tells_neither_truth_nor_arm_nor_patient(study):
    key = read_table(study / "key/key.csv")
    form = (study / "reader-1.html").read_text()
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", form)
    for hidden in [*key["patient"].unique(), *key["image"].unique(), "truth", "predicted"]:
        assert hidden not in form
    told = json.loads(re.search(r"const study = (.*);\n", form)[1])
    assert told["classes"] == CLASSES
    assert {one["id"] for one in told["cases"]} == set(key.loc[key["reader"] == 1, "id"])
    for path in (study / "images").iterdir():
        with Image.open(path) as picture:
            assert picture.info == {}
            assert picture.height == 384
            assert picture.width in (384, 768)  # with a map beside it
    shown = read_table(study / "cases.csv")
    assert list(shown) == ["reader", "position", "id", "arm", "repeat"]


def test_skills_come_back_within_their_intervals(study, tmp_path):
    skill = {"image": 0.65, "map:gradient": 0.9}
    answers = read_answers(study, write_answers(study, tmp_path, skill))
    assert answers.problems.empty
    found = accuracy_by_arm(answers, draws=400).set_index("arm")
    for arm, of_arm in skill.items():
        assert found.loc[arm, "ci_low"] <= of_arm <= found.loc[arm, "ci_high"]
    assert found["answers"].tolist() == [40, 40]
    assert found["seconds"].tolist() == [4.5, 4.5]
    pair = compare_arms(answers, draws=400).iloc[0]
    assert pair["difference"] == pytest.approx(found.loc["image", "accuracy"] - found.loc["map:gradient", "accuracy"])
    assert pair["ci_low"] <= -0.25 <= pair["ci_high"]
    words = "\n".join(str(said) for _, said in describe(answers, found.reset_index(), compare_arms(answers, 50),
                                                       reader_agreement(answers)))  # fmt: skip
    assert "With the image alone: " in words
    assert "With the image and the map of gradient: " in words


@pytest.mark.long
def test_intervals_of_accuracy_cover_with_six_readers(tmp_path):
    """Answers of a reader and of a case are alike: skill varies between readers, difficulty between patients."""
    out = tmp_path / "study"
    export(make_material(120, 60), out, arms=ARMS, task="label", cases=60, readers=6, seed=1)
    key, covered = read_table(out / "key/key.csv"), []
    study = read_json(out / "study.json")

    for seed in range(200):
        draw = np.random.default_rng(seed)
        of_reader, of_patient = (
            draw.normal(0, 0.5, 7),
            dict(zip(key["patient"].unique(), draw.normal(0, 0.8, 60), strict=False)),
        )
        logit = 1.0 + of_reader[key["reader"]] + key["patient"].map(of_patient)
        right = (draw.random(len(key)) < 1 / (1 + np.exp(-logit))).astype(float)
        table = key.assign(answer="good", confidence=3.0, seconds=1.0, right=right)
        row = accuracy_by_arm(Answers(table, pd.DataFrame(), study), draws=300).iloc[0]
        true = np.mean(1 / (1 + np.exp(-(1.0 + np.random.default_rng(0).normal(0, np.hypot(0.5, 0.8), 100_000)))))
        covered.append(row["ci_low"] <= true <= row["ci_high"])
    assert np.mean(covered) >= 0.9


def test_agreement_of_readers_and_of_each_with_himself(study, tmp_path):
    answers = read_answers(study, write_answers(study, tmp_path, 1.0))
    found = reader_agreement(answers).set_index(["who", "coefficient"])["value"]
    assert found["all readers", "Fleiss' κ"] == pytest.approx(1)
    assert found["reader 1 and 2", "Cohen's κ"] == pytest.approx(1)
    assert len(found) == 4 + 2 * (6 + 4)  # of all readers; answers and grades of each pair, and of each reader


def corrupted(study, tmp_path, change) -> list[dict]:
    """Problems found where the first reader's file is changed; the others are whole."""
    paths = write_answers(study, tmp_path, 0.8)
    paths[0].write_bytes(change(paths[0].read_text()).encode("utf-8", "surrogateescape"))
    found = read_answers(study, paths)
    assert found.table.loc[found.table["reader"] > 1, "answer"].notna().all()
    return found.problems.to_dict("records")


def line(text: str, number: int, **changes) -> str:
    """A file with one row changed (2 is the first below the heading)."""
    rows = text.splitlines()
    cells = dict(zip(ANSWER_COLUMNS, rows[number - 1].split(","), strict=True)) | changes
    rows[number - 1] = ",".join(cells.values())
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("change", "problem", "row"),
    [
        (lambda text: "", "cannot be read as CSV (EmptyDataError)", ""),
        (lambda text: "\udcff\udcfe\udcff", "cannot be read as CSV (UnicodeDecodeError)", ""),
        (lambda text: "a,b\n1,2\n", "has no column digest, reader", ""),
        (lambda text: text.splitlines()[0] + "\n", "has no rows", ""),
        (lambda text: re.sub(r"(?m)^[0-9a-f]{16},", "0" * 16 + ",", text), "is of another study: its digest", ""),
        (lambda text: re.sub(r"(?m)^([0-9a-f]{16}),1,", r"\1,9,", text), "is of reader 9, expected one of 1 to 4", ""),
        (lambda text: line(text, 4, answer=""), "position 3 has no answer", 4),
        (lambda text: line(text, 4, answer="blurred"), "position 3 has the answer 'blurred', which is no class", 4),
        (lambda text: line(text, 4, case="ffffffffff"), "case 'ffffffffff' at position '3' is not of this reader", 4),
        (lambda text: line(text, 4, position="x"), "at position 'x' is not of this reader", 4),
        (lambda text: text + text.splitlines()[3] + "\n", "position 3 is answered twice; neither answer is used", 4),
    ],
)
def test_what_does_not_fit_is_listed_and_never_guessed(study, tmp_path, change, problem, row):
    found = corrupted(study, tmp_path, change)
    assert found[0]["file"] == "reader-1.csv"
    assert problem in found[0]["problem"]
    assert found[0]["row"] == row
    if row == "":
        assert found[-1]["problem"] == "reader 1 has sent no file that can be used"


def test_missing_answers_are_missing_not_wrong(study, tmp_path):
    paths = write_answers(study, tmp_path, 1.0)
    paths[0].write_text(line(paths[0].read_text(), 2, answer=""))
    found = accuracy_by_arm(read_answers(study, paths), draws=50)
    assert found["accuracy"].tolist() == [1, 1]
    assert found["missing"].sum() == 1


def test_two_files_of_one_reader_are_both_left_out(study, tmp_path):
    paths = write_answers(study, tmp_path, 0.8)
    (tmp_path / "z.csv").write_text(answered(study, 2, 0.8, seed=7))
    found = read_answers(study, [*paths, tmp_path / "z.csv"])
    assert found.table.loc[found.table["reader"] == 2, "answer"].isna().all()
    assert "reader 2 is in z.csv, too; none of these files is used" in set(found.problems["problem"])


def test_an_export_refuses_what_it_cannot_show(tmp_path):
    found = make_material()
    given = {"task": "label", "cases": 8, "readers": 2, "seed": 0}
    with pytest.raises(ValueError, match="arm: found 'map:omig', expected some of image, prediction, map:gradient"):
        export(found, tmp_path / "a", arms=["map:omig"], **given)
    with pytest.raises(ValueError, match="found a prediction, which is what readers are asked for"):
        export(found, tmp_path / "a", arms=["image+prediction"], **(given | {"task": "network"}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    with pytest.raises(ValueError, match="found files, expected an empty folder"):
        export(found, tmp_path / "full", arms=ARMS, **given)
    with pytest.raises(ValueError, match="found no predictions, expected the results of a data set"):
        material(tmp_path, [])
    with pytest.raises(ValueError, match=r"study.json: there is none, expected the folder that `xiqa reader-study"):
        read_answers(tmp_path)


@pytest.fixture
def results(tmp_path) -> Path:
    """What a study has of a data set: six test images, of which four are explained at a cost."""
    folder, images = tmp_path / "results/mine", np.random.default_rng(0).random((8, 16, 16)).astype(np.float16)
    names = [f"image-{k}" for k in range(8)]
    labels = np.arange(8) % 2
    table = pd.DataFrame({"image": names, "patient": [f"p{k}" for k in range(8)], "label": labels,
                          "label_name": np.array(CLASSES)[labels], "data": "real"})  # fmt: skip
    write_array(folder / "prepared/images.npy", images)
    write_table(folder / "prepared/table.parquet", table)
    chosen = pd.DataFrame({"row": np.arange(2, 8), "part": "test", "costly": [True] * 4 + [False] * 2})
    write_table(folder / "explained/seed-1.parquet", chosen)
    predicted = pd.DataFrame({"image": names, "probability_good": 0.75, "probability_motion": 0.25})
    write_table(folder / "predictions/net/trained/seed-1.parquet", predicted)
    for method, number in (("gradient", 6), ("rise", 4)):
        maps = np.arange(number, dtype=np.float32)[:, None, None] * np.ones((1, 16, 16), np.float32)
        write_array(folder / f"saliency/net/trained/seed-1/{method}.npy", maps)
    return folder


def test_a_study_gives_its_test_images_with_the_maps_of_each(results):
    found = material(results, ["gradient", "rise"])
    assert found.cases["image"].tolist() == [f"image-{k}" for k in range(2, 6)]
    assert found.maps["gradient"][:, 0, 0].tolist() == found.maps["rise"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert set(found.cases["predicted"]) == {"good"}
    assert len(material(results, ["gradient"]).cases) == 6
    with pytest.raises(ValueError, match=r"grad_cam.npy: there is no such map; made were gradient, rise"):
        material(results, ["grad_cam"])


def test_maps_that_give_the_label_away_are_told_before_readers_see_them(results, tmp_path, capsys):
    words = ["reader-study", "export", str(results), "--arms", "image", "map:rise", "--cases", "4", "--readers", "1"]
    said = []
    for number, wrong in enumerate((["good"] * 4, ["good", "motion"] * 2)):  # the network says good to all
        told = pd.DataFrame({"image": [f"image-{k}" for k in range(2, 6)], "method": "rise", "explained": wrong})
        write_table(results / "saliency/net/trained/seed-1/perturbation_checks.csv", told)
        assert main([*words, "--out", str(tmp_path / str(number))]) == 0
        said.append(capsys.readouterr().out)
    assert "warning" not in said[0]
    assert "warning: the maps of 2 test images were made for the class of the label" in said[1]


def test_from_the_command_line_to_the_findings(results, tmp_path, capsys):
    out = tmp_path / "study"
    assert main(["reader-study", "export", str(results), "--out", str(out), "--arms", "image", "map:rise",
                 "--cases", "4", "--readers", "2"]) == 0  # fmt: skip
    write_answers(out, out / "answers", 1.0, [1, 2])
    assert main(["reader-study", "analyse", str(out)]) == 0
    said = capsys.readouterr().out
    assert "With the image alone: 100 %" in said
    made = {path.name for path in (out / "results").iterdir()}
    assert made == {"accuracy.csv", "comparison.csv", "agreement.csv", "problems.csv", "accuracy.png", "findings.html",
                    "findings.md"}  # fmt: skip
    assert main(["reader-study", "analyse", str(tmp_path)]) == 1
    assert "study.json: there is none" in capsys.readouterr().err


@pytest.mark.ci
@pytest.mark.long
def test_the_form_works_from_a_file_by_keyboard_and_goes_on_after_a_break(study, tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True, accept_downloads=True).new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((study / "reader-1.html").as_uri())
        page.keyboard.press("Enter")
        number = int(page.locator("#place").inner_text().split(" of ")[1])
        for case in range(number):
            if case == 5:  # closed and opened again
                page.reload()
                page.keyboard.press("Enter")
            assert page.locator("#place").inner_text() == f"Case {case + 1} of {number}"
            page.keyboard.press("Space")  # the first answer has the focus
            if case % 2:
                page.keyboard.press("ArrowDown")
            page.keyboard.press("Tab")
            page.keyboard.press("Space")
            page.keyboard.press("Enter")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        download.value.save_as(tmp_path / "answers.csv")
        page.set_viewport_size({"width": 390, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert errors == []
    found = read_answers(study, [tmp_path / "answers.csv"])
    own = found.table[found.table["reader"] == 1].sort_values("position")
    assert own["answer"].tolist() == [CLASSES[k % 2] for k in range(number)]
    assert (own["confidence"] == 1).all()
    assert own["seconds"].sum() > 0


def test_answers_to_another_study_of_the_same_seed_and_size_are_refused(tmp_path):
    found, digests, names = make_material(), [], []
    others = {
        "first": (found, "label"),
        "other task": (found, "network"),
        "other images": (found._replace(images=1 - found.images), "label"),
        "other network": (found._replace(network="other, seed 0"), "label"),
        "other patients": (found._replace(cases=found.cases.assign(patient=found.cases["patient"] + "x")), "label"),
    }
    for name, (shown, task) in others.items():
        export(shown, tmp_path / name, arms=ARMS, task=task, cases=4, readers=1, seed=5)
        digests.append(read_json(tmp_path / name / "study.json")["digest"])
        names.append(set(read_table(tmp_path / name / "cases.csv")["id"]))
    assert len(set(digests)) == len(others)
    assert len(set.union(*names)) == len(others) * len(names[0])
    export(found, tmp_path / "again", arms=ARMS, task="label", cases=4, readers=1, seed=5)
    assert read_json(tmp_path / "again/study.json")["digest"] == digests[0]
    with pytest.raises(ValueError, match="is of another study: its digest differs"):
        read_answers(tmp_path / "first", write_answers(tmp_path / "other images", tmp_path / "answers", 1.0, [1]))


@pytest.mark.parametrize("names", [["0", "1"], ["None", "NA"], ["1e3", "nan"]])
def test_classes_may_have_names_that_look_like_numbers_or_gaps(tmp_path, names):
    found = make_material()
    renamed = found.cases.replace({"label_name": dict(zip(CLASSES, names, strict=True))})
    export(
        found._replace(cases=renamed, classes=names),
        tmp_path / "s",
        arms=ARMS,
        task="label",
        cases=12,
        readers=1,
        seed=0,
    )
    key = pd.read_csv(tmp_path / "s/key/key.csv", dtype=str, keep_default_na=False)
    given = key[["reader", "position"]].assign(
        digest=read_json(tmp_path / "s/study.json")["digest"],
        case=key["id"],
        answer=key["truth"],
        confidence=3,
        seconds=1,
    )
    write_table(tmp_path / "a.csv", given[ANSWER_COLUMNS])
    assert accuracy_by_arm(read_answers(tmp_path / "s", [tmp_path / "a.csv"]), 50)["accuracy"].tolist() == [1, 1]


def test_rows_that_are_missing_are_listed(study, tmp_path):
    problems = corrupted(study, tmp_path, lambda text: "\n".join(text.splitlines()[:2] + text.splitlines()[4:]) + "\n")
    assert [one["problem"] for one in problems] == ["has no row for position 2, 3"]


@pytest.mark.parametrize("wrong", [{"confidence": "9"}, {"confidence": ""}, {"seconds": "inf"}, {"seconds": "-1"}])
def test_an_answer_without_a_grade_or_time_is_used_and_the_gap_listed(study, tmp_path, wrong):
    problems = corrupted(study, tmp_path, lambda text: line(text, 4, **wrong))
    (name, text) = next(iter(wrong.items()))
    assert [one["problem"] for one in problems] == [f"position 3 has {name} {text!r}; its answer is used"]


def test_where_all_are_right_the_interval_does_not_shrink_to_nothing(study, tmp_path):
    answers = read_answers(study, write_answers(study, tmp_path, 1.0))
    found = accuracy_by_arm(answers, draws=50)
    assert found["accuracy"].tolist() == [1, 1]
    assert found["ci_low"].between(0.5, 0.95).all()
    pair = compare_arms(answers, draws=50).iloc[0]
    assert pair["ci_low"] < -0.05 < 0.05 < pair["ci_high"]


def test_grades_agree_by_the_square_of_their_distance(study, tmp_path):
    answers = read_answers(study, write_answers(study, tmp_path, 1.0))
    graded = answers.table.assign(confidence=answers.table["case"] % 5 + 1.0)
    found = reader_agreement(answers._replace(table=graded)).set_index(["who", "coefficient"])["value"]
    assert found["reader 1 and 2", "quadratic κ of confidence"] == pytest.approx(1)
    assert found["all readers", "Krippendorff's α of confidence"] == pytest.approx(1)
    off = graded.assign(confidence=graded["confidence"].where(graded["reader"] > 1, 6 - graded["confidence"]))
    found = reader_agreement(answers._replace(table=off)).set_index(["who", "coefficient"])["value"]
    assert found["reader 1 and 2", "quadratic κ of confidence"] == pytest.approx(-1)
