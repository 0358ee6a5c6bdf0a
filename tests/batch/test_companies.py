"""The companies file: made, kept, extended by cohorts, and refused where it is not as it should."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import twin
from support import AT, AT_US, Cli, Project, tree

from fleetsim.base import files
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.batch.companies import CompaniesResult, read_companies, write_companies
from fleetsim.generate.config import make_config

HOUR_US = 3_600_000_000


def make(path: Path, values: dict[str, Any], at_us: int | None = AT_US, cohorts: int = 1) -> Any:
    """Write companies by the library."""
    return write_companies(
        make_config(values), path, at_us=at_us, now_us=AT_US + 5, cohorts=cohorts
    )


def refusal(path: Path, *arguments: Any) -> str:
    """Return the text of the error that making companies raises, with nothing changed."""
    before = tree(path.parent) if path.parent.exists() else None
    with pytest.raises(InputError) as caught:
        make(path, *arguments)
    assert (tree(path.parent) if path.parent.exists() else None) == before
    return str(caught.value)


def test_lines_are_those_of_the_twin(tmp_path, small) -> None:
    """Two cohorts, an hour apart, with geography and activity drawn for each company."""
    values = small | {"geographies": {"US": 0.5, "Österreich": 0.5}, "active_fraction": 0.5}
    path = tmp_path / "companies.jsonl"
    assert make(path, values, AT_US, 2) == CompaniesResult(lines=10, added=10)
    rows = twin.companies(values, AT_US, 2)
    assert path.read_bytes() == twin.content(rows)
    assert [row["created_at"][11:16] for row in rows] == ["12:00"] * 5 + ["13:00"] * 5


def test_companies_beyond_a_block_are_those_of_the_twin(tmp_path, small) -> None:
    """The comparison with an existing file crosses the edge of a block, too."""
    values = small | {"number_of_companies": 700}
    path = tmp_path / "companies.jsonl"
    assert make(path, values).added == 700
    assert make(path, values, AT_US, 3) == CompaniesResult(lines=2100, added=1400)
    assert make(path, values, AT_US, 3) == CompaniesResult(lines=2100, added=0)
    assert path.read_bytes() == twin.content(twin.companies(values, AT_US, 3))


def test_the_first_cohort_joins_now_by_default(tmp_path, small) -> None:
    """Without --at, the base time is the command's moment."""
    path = tmp_path / "companies.jsonl"
    make(path, small, None)
    assert read_companies(path).created_us.tolist() == [AT_US + 5] * 5


def test_the_first_cohort_may_join_in_1970(tmp_path, small) -> None:
    """Microsecond 0 is a time like any other."""
    path = tmp_path / "companies.jsonl"
    make(path, small, 0)
    assert read_companies(path).created_us.tolist() == [0] * 5


def test_an_equal_file_is_not_touched(tmp_path, small) -> None:
    """The same command twice leaves content and time of change alone."""
    path = tmp_path / "companies.jsonl"
    make(path, small)
    before = tree(tmp_path)
    assert make(path, small) == CompaniesResult(lines=5, added=0)
    assert tree(tmp_path) == before


def test_an_existing_file_sets_the_base_time(tmp_path, small) -> None:
    """Extended an hour later without --at, it keeps its first lines and its own base time."""
    path = tmp_path / "companies.jsonl"
    make(path, small)
    first = path.read_bytes()
    assert make(path, small, None, 3) == CompaniesResult(lines=15, added=10)
    assert path.read_bytes().startswith(first)
    joined = read_companies(path).created_us
    assert joined.tolist() == [AT_US + k * HOUR_US for k in (0, 1, 2) for _ in range(5)]


def test_a_larger_first_cohort_keeps_the_first_companies(tmp_path, small) -> None:
    """8 companies instead of 5 in one cohort are an extension, never a duplicate."""
    path = tmp_path / "companies.jsonl"
    make(path, small)
    first = path.read_bytes()
    assert make(path, small | {"number_of_companies": 8}) == CompaniesResult(lines=8, added=3)
    assert path.read_bytes().startswith(first)
    assert len({line[15:51] for line in path.read_bytes().splitlines()}) == 8


def test_an_empty_file_and_one_cut_short_are_completed(tmp_path, small) -> None:
    """Both are prefixes of the fleet asked for."""
    path = tmp_path / "companies.jsonl"
    make(path, small)
    whole = path.read_bytes()
    for part, kept in ((b"", 0), (whole[:-1], 4), (whole[:-30], 4)):
        path.write_bytes(part)
        assert make(path, small) == CompaniesResult(lines=5, added=5 - kept)
        assert path.read_bytes() == whole


def test_parent_folders_are_made(tmp_path, small) -> None:
    """The output may lie in folders that do not exist yet."""
    path = tmp_path / "a" / "b" / "companies.jsonl"
    make(path, small)
    assert [p.name for p in path.parent.iterdir()] == ["companies.jsonl"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 43}, 1),
        ({"geographies": {"DE": 1.0}}, 1),
        ({"active_fraction": 0.0}, 1),
        ({"active_fraction": 0.5}, 3),
        ({"number_of_companies": 2}, 3),
        ({"company_onboarding_interval": "PT2H"}, 6),
    ],
)
def test_a_file_that_is_no_prefix_is_refused(tmp_path, small, change, line) -> None:
    """Another seed, other fractions or another cadence: the first line that differs is named."""
    path = tmp_path / "companies.jsonl"
    make(path, small, AT_US, 2)
    text = refusal(path, small | change, None, 6)
    assert f"not a prefix of the fleet asked for: line {line} is" in text
    ours, asked = text.split("line ")[1].split(", this configuration and seed make ")
    assert ours.partition(" is ")[2] != asked.partition("\n")[0]
    assert "next: use the configuration and seed that made the file" in text


def test_another_base_time_is_refused(tmp_path, small) -> None:
    """--at that differs from the file's first line names both times."""
    path = tmp_path / "companies.jsonl"
    make(path, small)
    text = refusal(path, small, AT_US + 1)
    assert "joins at 2025-11-08T12:00:00.000000Z, --at asks for 2025-11-08T12:00:00.000001Z" in text
    assert "next: leave out --at" in text


def test_a_longer_file_is_refused(tmp_path, small) -> None:
    """A file is never cut: fewer companies than it holds are an error."""
    path = tmp_path / "companies.jsonl"
    make(path, small, AT_US, 3)
    assert "holds 15 companies, more than the 10 asked for" in refusal(path, small, None, 2)


def test_years_beyond_9999_are_refused_before_anything_is_made(tmp_path, small) -> None:
    """Cohorts whose time cannot be written leave not even the parent folder behind."""
    path = tmp_path / "new" / "companies.jsonl"
    late = small | {"company_onboarding_interval": "P999999999D"}
    text = refusal(path, late, AT_US, 2)
    assert (
        "--cohorts: found 2, the last of which joins after the year 9999; allowed: at most 1"
        in text
    )
    make(path, late)
    assert "at most 1 from 2025-11-08T12:00:00.000000Z on" in refusal(path, late, None, 2)


@pytest.mark.parametrize("place", ["folder", "file"])
def test_an_output_that_cannot_be_a_file_is_refused(tmp_path, small, place) -> None:
    """A folder of that name, or a file where a folder is needed."""
    path = tmp_path / "x"
    if place == "folder":
        path.mkdir()
        assert "a folder stands here" in refusal(path, small)
    else:
        path.write_text("")
        assert "a file stands here" in refusal(path / "companies.jsonl", small)


def test_a_place_where_nobody_may_write_is_refused(small) -> None:
    """Not even root makes folders below /proc."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    with pytest.raises(InputError, match=r"/proc/nobody: cannot be created: "):
        make(Path("/proc/nobody/companies.jsonl"), small)


def test_a_first_line_that_is_no_company_is_refused(tmp_path, small) -> None:
    """An existing file of another kind is left alone."""
    path = tmp_path / "companies.jsonl"
    path.write_text("dear diary\n")
    assert "line 1: not valid JSON" in refusal(path, small)


def test_an_interrupted_writer_leaves_the_old_file(tmp_path, small, monkeypatch) -> None:
    """Where writing fails in the middle, the file is the old one and nothing hidden stays."""
    path = tmp_path / "companies.jsonl"
    make(path, small)
    before = tree(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(FleetsimError, match=r"could not be written \(No space left on device\)"):
        make(path, small, AT_US, 2)
    assert tree(tmp_path) == before


def no_fsync_of_folders(monkeypatch: pytest.MonkeyPatch, number: int, after: int = 0) -> None:
    """Let the fsync of folders fail, as some file systems do, from some call on."""
    calls = []
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            calls.append(descriptor)
            if len(calls) > after:
                raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", refuse)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_system_without_fsync_of_folders_will_do(
    project: Project, fleetsim_cli: Cli, monkeypatch, number: int
) -> None:
    """Companies are extended and batches made, and the commands end well."""
    no_fsync_of_folders(monkeypatch, number)
    outcome = fleetsim_cli(*project.make_companies("--cohorts", 3))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith("15 companies (5 kept, 10 added)\n")
    assert fleetsim_cli(*project.make_events()).code == 0
    assert fleetsim_cli(*project.make_events("--seed", 1, "--force")).code == 0
    assert fleetsim_cli("verify", project.batch).code == 0


def test_what_stands_after_a_failed_fsync_of_the_folder_is_said(
    project: Project, fleetsim_cli: Cli, monkeypatch
) -> None:
    """The file has grown by then, and so has the folder of batches: never 'as it was before'."""
    no_fsync_of_folders(monkeypatch, errno.EIO)
    outcome = fleetsim_cli(*project.make_companies("--cohorts", 3))
    assert outcome.code == 1
    assert "it stands there with its new content" in outcome.err
    assert "Input/output error" in outcome.err
    assert "as it was" not in outcome.err
    assert len(project.companies.read_bytes().splitlines()) == 15
    monkeypatch.undo()
    no_fsync_of_folders(monkeypatch, errno.EIO, after=1)  # the batch's own folder is flushed first
    outcome = fleetsim_cli(*project.make_events())
    assert outcome.code == 1
    assert "it stands there with its new content" in outcome.err
    assert "not made" not in outcome.err
    assert fleetsim_cli("verify", project.batch).code == 0


def test_a_replaced_batch_that_stays_behind_is_said(
    project: Project, fleetsim_cli: Cli, monkeypatch
) -> None:
    """The new batch stands by then."""
    assert fleetsim_cli(*project.make_events()).code == 0
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".gone" in target.name:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    outcome = fleetsim_cli(*project.make_events("--seed", 1, "--force"))
    assert outcome.code == 1
    assert "the batch stands, but what it replaced could not be removed" in outcome.err
    assert json.loads((project.batch / "batch_meta.json").read_text())["seed"] == 1


def test_only_its_own_leftovers_are_cleared(tmp_path, small) -> None:
    """A killed writer's part is removed; hidden files of others in the same folder stay."""
    path = tmp_path / "companies.jsonl"
    mine = tmp_path / f".companies.jsonl{files.PARTIAL}"
    other = tmp_path / f".film{files.PARTIAL}"
    for left in (mine, other):
        left.write_text("half")
    make(path, small)
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, path.name]


def test_the_command_says_what_it_did(project: Project, fleetsim_cli: Cli) -> None:
    """New, kept and added companies are told apart."""
    assert fleetsim_cli(*project.make_companies()).out.endswith("5 companies (5 kept, 0 added)\n")
    extended = fleetsim_cli(*project.make_companies("--cohorts", 2))
    assert extended.out.endswith("10 companies (5 kept, 5 added)\n")
    assert (extended.code, extended.err) == (0, "")


def test_the_commands_seed_replaces_the_configurations(project: Project, fleetsim_cli: Cli) -> None:
    """--seed N makes the fleet of that seed."""
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--seed", 2**64 - 1, "--at", AT)).code == 0
    values = json.loads(project.config.read_text()) | {"seed": 2**64 - 1}
    assert project.companies.read_bytes() == twin.content(twin.companies(values, AT_US))


# Reading.


ROW = {
    "company_id": "4a1f4a6e-8b0c-4d5e-9f00-0123456789ab",
    "geography": "US",
    "active": True,
    "created_at": AT,
}
OTHER = ROW | {"company_id": "4a1f4a6e-8b0c-4d5e-9f00-0123456789ac"}


def lines(*rows: object) -> bytes:
    """Return rows, or text as it stands, as the content of a companies file."""
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return "".join(f"{text}\n" for text in texts).encode()


def test_a_file_by_others_is_read(tmp_path) -> None:
    """Spaces, another order of keys and another zone do no harm."""
    path = tmp_path / "c.jsonl"
    other = dict(reversed((OTHER | {"created_at": "2025-11-08T14:00:00+02:00"}).items()))
    path.write_bytes(lines(ROW, other | {"active": False}))
    fleet = read_companies(path)
    assert len(fleet) == 2
    assert fleet.active.tolist() == [True, False]
    assert fleet.created_us.tolist() == [AT_US, AT_US]
    assert bytes(fleet.company_id[1]).decode() == OTHER["company_id"]


def test_the_first_lines_are_the_fleet_before_it_was_extended(tmp_path) -> None:
    """Reading a number of lines gives the hash that the shorter file had."""
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines(ROW))
    before = read_companies(path)
    path.write_bytes(lines(ROW, OTHER))
    assert read_companies(path, lines=1).sha256 == before.sha256
    assert len(read_companies(path, lines=1)) == 1
    assert len(read_companies(path, lines=9)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; expected a companies file, one JSON object a line"),
        (lines(ROW)[:-1], "line 1 has no end: the file is cut short"),
        (lines(ROW, OTHER)[:-9], "line 2 has no end: the file is cut short"),
        (lines(ROW, "{broken"), "line 2: not valid JSON"),
        (lines(ROW, ""), "line 2: not valid JSON"),
        (lines(ROW, "[1]"), "line 2: expected `object`, got `array`"),
        (lines(ROW, ROW), f"line 2: company_id {ROW['company_id']} already stands on line 1"),
        (lines(OTHER, ROW, OTHER, ROW), "line 3: company_id .* already stands on line 1"),
        (lines(ROW | {"company_id": "x"}), "line 1: company_id is not a lower-case UUID"),
        (lines(ROW | {"company_id": 1}), "line 1: expected `str`, got `int` - at `\\$.company_id`"),
        (
            lines(ROW | {"company_id": ROW["company_id"].upper()}),
            "line 1: company_id is not a lower-case UUID of version 4",
        ),
        (
            lines(ROW | {"company_id": ROW["company_id"] + "\n"}),
            "line 1: company_id is not a lower-case UUID of version 4",
        ),
        (
            lines(ROW | {"company_id": "4a1f4a6e-8b0c-1d5e-9f00-0123456789ab"}),
            "line 1: company_id is not a lower-case UUID of version 4",
        ),
        (
            lines(ROW | {"created_at": "2025-11-08T12:00:00"}),
            "line 1: created_at: found '2025-11-08T12:00:00'; allowed: a time with its zone",
        ),
        (lines(ROW | {"created_at": "soon"}), "line 1: created_at: found 'soon'"),
        (lines(ROW | {"active": "yes"}), "line 1: expected `bool`, got `str`"),
        (lines(ROW | {"truck": 1}), "line 1: object contains unknown field `truck`"),
        (lines({"company_id": ROW["company_id"]}), "line 1: object missing required field"),
        (lines(ROW).replace(b"US", b"\xff"), "line 1: not valid JSON .*invalid start byte"),
    ],
)
def test_a_file_with_a_fault_is_refused(tmp_path, content, message) -> None:
    """The message names the file, the line and what was found there."""
    path = tmp_path / "c.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: ") + message):
        read_companies(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path) -> None:
    """The message says how to make the file."""
    with pytest.raises(InputError, match=r"no such file; .*make one with: fleetsim companies"):
        read_companies(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"found a folder; allowed: a companies file, one JSON"):
        read_companies(tmp_path)
