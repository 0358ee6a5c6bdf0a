"""The gallery: every run on one page, safe to open whatever stands in the records."""

import hashlib
import re
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import msgspec
import pytest
from made_runs import failed, made_record, with_verdict, write_run

from fleetsim.base.errors import InputError
from fleetsim.report.gallery import refresh_gallery, render_gallery, write_gallery

HOSTILE = "<script>alert(1)</script>\"' & <img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Keeps every element with its attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        """Keep a text."""
        self.text += data

    def all(self, tag):
        """Return the attributes of every element of one kind."""
        return [attrs for name, attrs in self.elements if name == tag]


def add_figure(run, name="events_per_driver.png"):
    """Put a picture and a report into a run."""
    (run / "figures").mkdir(exist_ok=True)
    (run / "figures" / name).write_bytes(b"png")
    (run / "report.html").write_text("a report")


@pytest.fixture
def results(tmp_path):
    """Return results with a good run, one with a hostile record, a failed and a damaged one."""
    add_figure(write_run(tmp_path, with_verdict(made_record("r1"), "memory_peak", "fail")))
    record = made_record("r2", seed=8)
    record = msgspec.structs.replace(
        record,
        experiment="x & <b>y",
        run_id=HOSTILE,
        description=msgspec.structs.replace(record.description, title=HOSTILE),
        parameters={**record.parameters, HOSTILE: HOSTILE},
    )
    folder = tmp_path / "javascript:alert(1)" / 'a "run" #1?'
    folder.mkdir(parents=True)
    (folder / "result.json").write_bytes(record.encode())
    add_figure(folder, 'a" onerror="x.png')
    write_run(tmp_path, failed(made_record("r3", seed=9), HOSTILE))
    (tmp_path / "000-smoke" / "r4").mkdir()
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / "a-b.html").write_text("a page")
    return tmp_path


def test_every_run_has_a_card(results):
    """With status, counts, figure and link; what is no run is named."""
    page = Page(write_gallery(results).read_text())
    cards = [attrs["href"] for attrs in page.all("a") if "/" in attrs["href"]]
    assert cards[:2] == ["000-smoke/r3/result.json", "000-smoke/r1/report.html"]
    assert cards[-1] == "compare/a-b.html"
    n = len(made_record().criteria)
    assert f"{n - 1} pass, 1 fail, 0 inconclusive" in page.text
    assert "failed in cell 7: DeadKernelError" in " ".join(page.text.split())
    assert "3 runs of 2 experiments, of which 1 failed" in page.text
    assert "000-smoke/r4: no result.json here" in page.text
    first = page.all("img")[0]
    assert first["src"] == "000-smoke/r1/figures/events_per_driver.png"
    assert first["alt"] == "events per driver of run r1"
    assert first["loading"] == "lazy"


def test_the_page_is_safe_and_alone(results):
    """One script, known by its hash, nothing from a network, and links that stay relative."""
    text = render_gallery(results)
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"iframe", "object", "embed", "form", "base"}
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == len(page.all("script")) == 1
    digest = b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")]
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'")
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]
    for attrs in page.all("a") + page.all("img"):
        target = attrs.get("href") or attrs["src"]
        assert not re.match(r"[a-z]+:|/", target), target
    assert "://" not in text
    assert "javascript%3Aalert" in text
    assert HOSTILE in page.text
    assert all("alt" in attrs and attrs["alt"] for attrs in page.all("img"))
    assert [tag for tag, _ in page.elements if tag in ("h1", "h2", "h3")][:3] == ["h1", "h2", "h3"]
    assert page.all("html")[0]["lang"] == "en"


def test_an_empty_folder_makes_a_page_that_says_so(tmp_path):
    """A results folder before its first run."""
    assert "No run stands here yet" in write_gallery(tmp_path / "results").read_text()


def test_a_foreign_index_is_left_alone(results, caplog):
    """Somebody else's page of that name is refused; a run does not fail for it."""
    path = results / "index.html"
    path.write_text("<title>mine</title>")
    with pytest.raises(InputError, match="another page"):
        write_gallery(results)
    refresh_gallery(results)
    assert "the gallery was not made anew" in caplog.text
    assert path.read_text() == "<title>mine</title>"


def test_the_page_stays_small(tmp_path):
    """Some hundred bytes a run: pictures are linked, not held."""
    record = made_record("r")
    for number in range(50):
        name = f"run{number:03d}"
        add_figure(write_run(tmp_path, msgspec.structs.replace(record, run_id=name)))
    assert len(render_gallery(tmp_path)) < 12_000 + 50 * 1_500


def test_of_runs_that_end_at_once_none_is_missing(tmp_path):
    """Each lists the folder while nobody else writes the page, so the last one sees all."""

    def add(number):
        write_run(tmp_path, made_record(f"r{number}"))
        write_gallery(tmp_path)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    text = (tmp_path / "index.html").read_text()
    assert [f"000-smoke/r{n}/" in text for n in range(6)] == [True] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000-smoke", "index.html"]


def test_runs_html_makes_the_gallery(fleetsim_cli, results):
    """The command names the page that it made."""
    done = fleetsim_cli("runs", "--results", results, "--html")
    assert (done.code, done.out.strip()) == (0, str(results / "index.html"))
    assert (results / "index.html").read_text() == render_gallery(results)
