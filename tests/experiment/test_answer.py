"""The answer of a run: from the verdicts alone, in a sentence or two."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, copy_project

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project
from fleetsim.base.verdict import VERDICTS, Verdict
from fleetsim.experiment.answer import Answer, Outlook, answer_of, outlook
from fleetsim.experiment.criterion import Judgement, brief_of
from fleetsim.experiment.record import read_record
from fleetsim.experiment.spec import load_experiment


class Row(NamedTuple):
    """A criterion that was judged."""

    id: str
    title: str
    verdict: Verdict
    brief: str = ""


@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        ([], Outlook.OPEN),
        (["pass"], Outlook.SUPPORTED),
        (["pass", "pass"], Outlook.SUPPORTED),
        (["fail"], Outlook.NOT_SUPPORTED),
        (["fail", "inconclusive"], Outlook.NOT_SUPPORTED),
        (["pass", "fail"], Outlook.PARTLY),
        (["pass", "fail", "inconclusive"], Outlook.PARTLY),
        (["inconclusive"], Outlook.OPEN),
        (["pass", "inconclusive"], Outlook.OPEN),
    ],
)
def test_the_rule(verdicts: list[str], wanted: Outlook) -> None:
    """No verdict at all, or one that is missing, never supports anything."""
    assert outlook([Verdict(word) for word in verdicts]) == wanted


@given(st.lists(st.sampled_from(VERDICTS), min_size=1))
def test_supported_means_that_all_passed(verdicts: list[Verdict]) -> None:
    """And the order does not matter."""
    assert (outlook(verdicts) == Outlook.SUPPORTED) == (set(verdicts) == {Verdict.PASS})
    assert outlook(verdicts) == outlook(verdicts[::-1])


def test_few_criteria_are_told_one_by_one() -> None:
    """Each with yes or no, and its reason as a phrase."""
    rows = [
        Row("time", "In time", Verdict.PASS, "0.30 s; claimed below 5"),
        Row("count", "About 5000 events", Verdict.FAIL, "3550; the configuration makes 3500"),
    ]
    found = answer_of(rows)
    assert str(found) == (
        "Partly supported. In time: yes, 0.30 s; claimed below 5. About 5000 events: no, 3550; the "
        "configuration makes 3500."
    )
    assert str(answer_of(rows, ["count"])).startswith("Not supported. About 5000 events: no")
    assert str(answer_of(rows, ["time"])).startswith("Supported. In time: yes")


def test_of_many_criteria_those_that_did_not_pass_are_told() -> None:
    """A failed one before one that is not decided; what does not fit is counted."""
    rows = [Row(f"c{i}", f"Claim {i}", Verdict.PASS) for i in range(8)]
    assert str(answer_of(rows)) == "Supported. All 8 claims hold."
    rows += [Row("i", "Spread", Verdict.INCONCLUSIVE), Row("f", "Count", Verdict.FAIL, "7")]
    assert str(answer_of(rows)) == (
        "Partly supported. 8 of 10 claims hold. Count: no, 7. Spread: not decided."
    )
    rows += [Row(f"x{i}", f"Other {i}", Verdict.FAIL) for i in range(3)]
    text = answer_of(rows).text
    assert text.startswith("8 of 13 claims hold. Count: no, 7. Other 0: no. Other 1: no.")
    assert text.endswith("2 more do not hold or are not decided.")


def test_a_kind_may_have_better_words() -> None:
    """The verdict is still that of the criteria."""
    row = Row("lost", "Lost", Verdict.FAIL)
    assert answer_of([row], text="7 are lost.") == Answer(
        verdict=Outlook.NOT_SUPPORTED, text="7 are lost."
    )


@pytest.mark.parametrize(
    ("judgement", "unit", "wanted"),
    [
        (Judgement(0.30, Verdict.PASS, "", None, 5.0), "s", "0.3 s; claimed below 5"),
        (Judgement(7, Verdict.FAIL, "", 8.0, 9.0), "events", "7 events; claimed 8 to 9"),
        (Judgement(0.9, Verdict.FAIL, "", 1.0, None), "", "0.9; claimed above 1"),
        (Judgement(0, Verdict.PASS, "", None, 0.0), "rows", "0 rows"),
        (Judgement(True, Verdict.PASS, ""), "", ""),
        (Judgement(None, Verdict.INCONCLUSIVE, ""), "s", ""),
        (Judgement(1.0, Verdict.PASS, "", brief="as told"), "s", "as told"),
    ],
)
def test_the_reason_as_a_phrase(judgement: Judgement, unit: str, wanted: str) -> None:
    """What was observed beside its limits, where the judge has no words of its own."""
    assert brief_of(judgement, unit) == wanted


def test_the_hypothesis_rests_on_criteria_that_are_there(tmp_path: Path) -> None:
    """Another id is refused, with the nearest one; so is one that is named twice."""
    project = Project(copy_project(tmp_path))
    path = project.experiment_file("000-smoke")
    text = path.read_text()
    assert load_experiment(project, "000-smoke").hypothesis_rests_on == (
        "generation_time",
        "event_count_expected",
    )
    for value, said in (
        ("[generation_tine]", "found 'generation_tine' (did you mean generation_time?)"),
        ("[generation_time, generation_time]", "found 'generation_time' twice"),
    ):
        line = "hypothesis_rests_on: [generation_time, event_count_expected]"
        assert line in text
        path.write_text(text.replace(line, f"hypothesis_rests_on: {value}"))
        with pytest.raises(InputError, match=r"hypothesis_rests_on") as refused:
            load_experiment(project, "000-smoke")
        assert said in str(refused.value)


def test_a_record_of_before_there_were_answers_has_one() -> None:
    """It rests on all criteria."""
    record = read_record(ROOT / "results" / "001-baseline" / "reference")
    assert record.answer is not None
    assert record.answer.verdict == Outlook.PARTLY
