"""The page about a run: whole, escaped, the same every time, and nothing fetched."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tiny import FAST, linear, real_valued, run

import llc
from llc.checkpoints import save_checkpoint

HOSTILE = '<script>alert("x")</script>&'


class Page(HTMLParser):
    """Tags, whether they close, and all text."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for step, weights in run():
        save_checkpoint(folder, step, weights, {"train_loss": 1 / step, HOSTILE: 2.5})
    return llc.trace(llc.Task(linear(), real_valued(), "mse", name=HOSTILE), folder, **FAST)


@pytest.fixture(scope="module")
def page(trajectory, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    spoilt = replace(trajectory, skipped={99: f"no weights {HOSTILE}"})
    assert llc.write_report(spoilt, path) == path
    parsed = Page()
    parsed.feed(path.read_text())
    assert parsed.open == []
    return path.read_text(), parsed


def test_nothing_is_fetched_and_nothing_runs(page):
    text, parsed = page
    assert "script" not in {tag for tag, _ in parsed.tags}
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href"):
            place = attributes.get(name, "#")
            assert place.startswith(("#", "data:image/png;base64,")), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    # Namespaces are names, not addresses; nothing else points outside.
    assert set(re.findall(r'https?://[^\s"<]+', text)) <= {
        "http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg",
    }  # fmt: skip


def test_what_others_wrote_is_shown_as_text(page):
    text, parsed = page
    assert "<script" not in text
    assert HOSTILE in "".join(parsed.text)


def test_every_checkpoint_has_its_row(page, trajectory):
    text = " ".join("".join(page[1].text).split())
    for point in trajectory.points:
        assert f"{point.estimate.verdict.status}" in text
        low, high = point.estimate.interval(0.9)
        assert f"{low:.4g} to {high:.4g}" in text
    assert "step 99: no weights" in text
    assert "4 checkpoints of 8 parameters" in text
    for reason in {r for p in trajectory.points for r in p.estimate.verdict.reasons}:
        assert reason.name.replace("_", " ").lower() in text


def test_figures_are_in_the_page(page):
    figures = [a for tag, a in page[1].tags if tag == "svg"]
    assert len(figures) == 3
    assert all(figure["aria-label"] for figure in figures)


def test_the_same_run_gives_the_same_bytes(trajectory, tmp_path):
    first = llc.write_report(trajectory, tmp_path / "a.html").read_bytes()
    assert llc.write_report(trajectory, tmp_path / "b.html").read_bytes() == first


def test_a_run_of_one_checkpoint_that_was_not_measured(tmp_path):
    lost = llc.trace(llc.Task(linear(), real_valued(), "mse"), run(1), **FAST, step_size=1e6)
    text = llc.write_report(lost, tmp_path / "a.html").read_text()
    assert "not measured" in text
