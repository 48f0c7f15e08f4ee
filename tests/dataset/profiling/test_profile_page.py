"""Profile page: shown values, escaped text, and no external files."""

import base64
import io
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from deepfm.dataset.profiling.dataset_profile import DatasetProfile, RejectedRows, Rows
from deepfm.dataset.profiling.field_profile import FieldProfile, ProfileWarning, ValueRows
from deepfm.dataset.profiling.profile_page import draw_ctr, profile_page
from deepfm.dataset.profiling.value_names import printable

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>\" ' {{ 7 * 7 }} $\\frac"
SHARES = {"train": 0.125, "valid": 0.5, "test": 1.0}


def value(name, num_rows=3, ctr=0.25):
    return ValueRows(name=name, num_rows=num_rows, share=num_rows / 8, ctr=ctr)


def field(name, kind="category", **changes):
    content = {
        "num_values": 1234567,
        "num_known_ids": 2,
        "num_ids_seen": 4,
        "missing": SHARES,
        "unknown": SHARES,
    }
    content |= {"top": (), "buckets": (), "mean": None, "std": None, "valid_auc": 0.61234}
    return FieldProfile(name=name, kind=kind, **{**content, **changes})


FIELDS = (
    field("I", "count", buckets=(value("below 0"), value("0", 0, None)), top=(value("below 0"),)),
    field("C", top=(value(HOSTILE),)),
    field("V", "value", num_values=None, num_known_ids=None, mean=2.5, std=0.125),
    field("C_x_I", "cross", num_values=None, num_known_ids=50, missing={}, unknown={}, valid_auc=None),
)


def profile(**changes):
    content = {
        "digest": "0123456789abcdef",
        "log_url": HOSTILE,
        "splits": [Rows(day="", split="train", num_rows=1234567, ctr=0.375)],
        "days": [
            Rows(day=f"2026-01-{day:02}", split=split, num_rows=10, ctr=0.5)
            for day, split in enumerate(["train"] * 30 + ["outside"], start=1)
        ],
        "set_aside": [RejectedRows(reason="not_utf8", num_rows=7, examples=(HOSTILE, "second"))],
        "fields": FIELDS,
        "warnings": [ProfileWarning(name="constant", field="C", text=f"C: the same value, {HOSTILE}")],
    }
    return DatasetProfile(**{**content, **changes})


class Parsed(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]

    @property
    def rows(self):
        """Texts of the lines, without blanks at their ends."""
        joined = "".join(self.text)
        return [" ".join(line.split()) for line in joined.split("\n") if line.strip()]


@pytest.fixture(scope="module")
def html():
    return profile_page(profile())


@pytest.fixture(scope="module")
def parsed(html):
    return Parsed(html)


def test_every_tag_is_closed(parsed):
    assert parsed.open == []


def test_hostile_text_stays_text(html, parsed):
    assert html.count("<script") == 0
    assert {tag for tag, _ in parsed.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "b", "div"),
        *("table", "tr", "th", "td", "a", "code", "br", "img"),
    }
    assert parsed.values("onerror") == []
    # Unchanged as a value, as a rejected row, in a warning and as the URL of the log.
    assert "".join(parsed.text).count(HOSTILE) == 4


def test_nothing_is_loaded_from_elsewhere(parsed):
    assert all(source.startswith("data:image/png;base64,") for source in parsed.values("src"))
    assert all(target.startswith("#") for target in parsed.values("href"))
    assert {tag for tag, _ in parsed.tags} & {"script", "link", "iframe", "object", "base"} == set()
    assert "url(" not in "".join(parsed.text) and "@import" not in "".join(parsed.text)
    (policy,) = [attributes["content"] for tag, attributes in parsed.tags if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'; ")


def test_each_plot_is_a_png_that_is_not_empty(parsed):
    images = [base64.b64decode(source.partition(",")[2], validate=True) for source in parsed.values("src")]
    # Days, and the one field with buckets.
    assert len(images) == 2
    for image in images:
        pixels = imread(io.BytesIO(image), format="png")
        assert pixels.shape[0] > 100 and pixels.shape[1] > 100
        assert pixels.min() < pixels.max()


@pytest.mark.parametrize("ctrs", [[0.25, None, 0.251], [0.0, 0.0], [None]])
def test_an_almost_constant_ctr_is_inside_its_plot(ctrs):
    axes = Figure().subplots()
    draw_ctr(axes, ctrs, ["tab:blue"] * len(ctrs))
    lowest, highest = axes.get_ylim()
    assert lowest == 0
    assert highest > 1.1 * max(ctr or 0 for ctr in ctrs)


def test_links_refer_to_a_field_on_the_page(parsed):
    assert parsed.values("href") == [f"#{name}" for name in parsed.values("id")] == ["#I", "#C"]


def test_values_are_called_most_frequent_only_if_all_were_counted(parsed):
    """For a vocabulary the first ids are shown, which do not change when it grows."""
    text = "".join(parsed.text)
    assert text.count("most frequent values") == text.count("first known values") == 1
    assert text.index("most frequent values") < text.index("first known values")
    assert "in a grown dataset, those of the base dataset" in text


def test_numbers_are_formatted_for_people(parsed):
    cells = [text.strip() for text in parsed.text]
    assert {"1,234,567", "0.375", "12.50%", "50.00%", "100.00%", "0.6123", "2.5"} <= set(cells)
    # A cross: 4 of 50.
    assert any("(8.00%)" in cell for cell in cells)
    assert "None" not in cells and "nan" not in cells


def test_a_page_shows_that_there_are_no_warnings_and_no_rejected_rows():
    parsed = Parsed(profile_page(profile(warnings=(), set_aside=(), days=())))
    text = "".join(parsed.text)
    assert "No warnings." in text
    assert "Rejected rows\n<p>None" not in text and "None." in text
    assert len(parsed.values("src")) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\n", "a\\tb\\n"),
        ("\u202eevil", "\\u202eevil"),
        ("é", "é"),
        ("x" * 121, "x" * 120 + "…"),
        ("x" * 120, "x" * 120),
    ],
)
def test_text_of_a_log_becomes_printable(text, shown):
    assert printable(text) == shown
