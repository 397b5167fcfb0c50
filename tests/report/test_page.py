from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from dpgen import report

Values = dict[str, Any]
VOID = {"meta", "img", "link", "br", "input", "hr"}
HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'\x00\ud800&"


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order, every id once."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice"
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def every(self, name: str) -> list[str]:
        return [a[name] or "" for _, a in self.attributes if name in a]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page(complete: Values, png: bytes) -> Page:
    return Page(report.render(complete, lambda _: png))


def spoiled(results: Values) -> Values:
    """A failed cell, a missing one, a metric that is no number, a method without certificate."""
    results["cells"].pop()
    results["cells"][3].update(status="failed", error="out of\nmemory", privacy=None, metrics={})
    results["cells"][5]["metrics"]["classifier_fid"] = math.nan
    for cell in results["cells"]:
        if cell["label"] == "pge dpsgd":
            cell["privacy"].update(verified=False, epsilon="infinite")
    return results


def test_a_page_is_valid_and_every_id_is_there_once(page: Page) -> None:
    ids = page.every("id")
    assert len(ids) == len(set(ids)) > 20
    assert page.tags["h1"] == 1 and page.tags["main"] == 1 and page.tags["title"] > 2
    inner = [link[1:] for link in page.every("href") if link.startswith("#")]
    assert inner and set(inner) <= set(ids)
    for name in (i for a in page.every("aria-labelledby") for i in a.split()):
        assert name in ids


def test_headings_go_down_one_level_at_a_time(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.attributes if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_nothing_is_loaded_and_nothing_runs(results: Values, png: bytes) -> None:
    results["data"].update(name="mnist", shape=[1, 28, 28])
    found = Page(report.render(results, lambda _: png))
    assert all(source.startswith("data:image/png;base64,") for source in found.every("src"))
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(found.tags)
    assert not [n for _, a in found.attributes for n in a if n.startswith("on")]
    for tag, attributes in found.attributes:
        target = attributes.get("href") or "#"
        if not target.startswith(("#", "data:application/json;base64,")):
            # Citations, which load nothing until somebody follows them.
            assert tag == "a" and re.fullmatch(r"https://arxiv\.org/abs/[\d.]+", target)
    style = (files("dpgen.report") / "page.css").read_text()
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for t, a in found.attributes if a.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def hostile(value: object) -> object:
    """The same results with every text and every free name replaced by a hostile one."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    if isinstance(value, dict):
        return {key: hostile(inner) for key, inner in value.items()}
    return value


def test_no_text_of_the_results_becomes_markup(results: Values, png: bytes) -> None:
    plain = Page(report.render(spoiled(results), lambda _: png))
    evil: Any = hostile(results)
    evil["schema"] = results["schema"]
    for name in ("protocol", "machine", "references"):
        evil[name][HOSTILE] = {"accuracy_cnn": 0.5} if name == "references" else HOSTILE
    for before, cell in zip(results["cells"], evil["cells"], strict=True):
        cell["status"] = before["status"]
        cell["metrics"][f"accuracy_{HOSTILE}"] = 0.5
        cell["seconds"][HOSTILE] = 1.0
    text = report.render(evil, lambda _: png)
    text.encode()
    found = Page(text)
    assert found.tags["script"] == 0 and set(found.tags) == set(plain.tags)
    names = {name for _, attributes in found.attributes for name in attributes}
    assert names == {name for _, attributes in plain.attributes for name in attributes}
    assert "<script>alert(1)</script>" in found.text
    assert text.count("<img") == plain.tags["img"]


def test_dollar_signs_are_text(results: Values) -> None:
    results["title"] = "$style costs $5 $$"
    assert "$style costs $5 $$" in Page(report.render(results)).text


def test_failed_missing_broken_and_unverified_cells_are_named(results: Values, png: bytes) -> None:
    text = Page(report.render(spoiled(results), lambda _: png)).text
    assert "46 of 48 cells are done, 1 failed, 1 are not there yet, 1 gave a metric" in text
    assert "pge sketch, epsilon 0.2, seed 0 failed : out of out of memory" in text
    assert "dpdm, epsilon 1, seed 0: classifier_fid came out infinite or as no number" in text
    assert "pge sketch 2 of 3, 1 failed" in text and "pge sketch 2 of 3, 1 missing" in text
    assert "(1 no number)" in text
    assert "seed 0: failed; seed 1: done; seed 2: done" in text
    assert "seed 0: done; seed 1: done; seed 2: missing" in text
    assert "Without a verified guarantee: 12 of 46 finished cells." in text
    assert "pge dpsgd (not verified)" in text and "NOT VERIFIED" in text
    assert "pge dpsgd: 0 of 12 cells verified" in text


def test_a_complete_benchmark_has_no_alarm(page: Page) -> None:
    assert "One seed" not in page.text
    assert not [a for _, a in page.attributes if a.get("class") == "alarm"]
    assert "failed" not in page.text.replace("✕ failed", "") and "missing" not in page.text


def test_every_cell_has_a_statement_in_a_fold_of_its_own(page: Page, results: Values) -> None:
    for cell in results["cells"]:
        assert cell["privacy"]["statement"] in page.text
    assert page.text.count("in the central model") == 48
    summaries = re.findall(r"epsilon [\d.]+, seed \d: epsilon [\d.]+ at delta 0\.0001, verified",
                           page.text)  # fmt: skip
    assert len(summaries) == 48


def test_the_guarantee_stands_before_the_numbers_with_delta_and_relation(page: Page) -> None:
    sentence = "except for a probability of delta = 0.0001 (adding or removing one record)."
    assert 0 < page.text.index(sentence) < page.text.index("Curves")
    assert "computed again from its certificate: 48 of 48 finished cells." in page.text
    assert "this data set is public." in page.text


def test_data_that_are_not_declared_public_make_the_report_private(results: Values) -> None:
    del results["data"]["public"]
    assert "this report is as private as the data" in Page(report.render(results)).text


def test_protocol_settings_and_machine_are_all_there(page: Page) -> None:
    for words in ("network_sha256 " + "ab" * 32, "learning_rate 0.002", "torch 2.13.0",
                  "preset quick", "batch_size 256", "settings fixed on splits"):  # fmt: skip
        assert words in page.text


def test_published_numbers_are_drawn_only_beside_their_own_metric(results: Values) -> None:
    def drawn(values: Values) -> tuple[int, int, str]:
        found = Page(report.render(values))
        groups = [a.get("class") for _, a in found.attributes].count("published")
        return groups, found.text.count("listed only"), found.text

    assert drawn(results)[:2] == (0, 0)
    results["data"].update(name="mnist", shape=[1, 28, 28])
    n_charts, n_listed, text = drawn(results)
    # Accuracy of a CNN only: FID there is by a classifier. 16 series, four of them drawn.
    assert (n_charts, n_listed) == (1, 12) and "DP-SAD (claim)" in text
    for cell in results["cells"]:
        cell["metrics"]["fid"] = cell["metrics"].pop("classifier_fid")
    assert drawn(results)[:2] == (2, 5)
    results["data"]["reference"] = "test"
    assert drawn(results)[:2] == (1, 12)


def test_the_numbers_of_the_page_travel_with_it(page: Page, results: Values) -> None:
    (link,) = [h for h in page.every("href") if h.startswith("data:")]
    assert json.loads(base64.b64decode(link.partition(",")[2])) == results


def test_a_benchmark_without_any_cell_has_a_page(results: Values) -> None:
    results.update(cells=[], references={})
    found = Page(report.render(results))
    assert "0 of 48 cells are done, 48 are not there yet" in found.text
    assert "No cell has a metric yet." in found.text
    assert "No cell has a verified guarantee yet." in found.text
    del results["epsilons"], results["seeds"]
    Page(report.render(results))


def test_a_metric_without_a_single_number_has_no_chart(results: Values) -> None:
    for cell in results["cells"]:
        cell["metrics"]["accuracy_cnn"] = math.inf
    assert "No finished cell has a number." in Page(report.render(results)).text


def test_everything_in_one_seed_and_one_epsilon(results: Values) -> None:
    results["cells"] = [c for c in results["cells"] if c["epsilon"] == 1.0 and c["seed"] == 0]
    results.update(epsilons=[1.0], seeds=1)
    found = Page(report.render(results))
    assert "One seed: nothing here says how much of a difference is chance." in found.text
    assert "±" not in found.text.replace("Mean over seeds ± standard error", "")


def test_pictures_are_read_from_a_folder_or_by_a_function(
    results: Values, png: bytes, tmp_path: Path
) -> None:
    for cell in results["cells"]:
        path = tmp_path / cell["grid"]
        path.parent.mkdir(parents=True)
        path.write_bytes(png)
    assert report.render(results, tmp_path) == report.render(results, lambda _: png)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_stand_out_in_both_schemes(scheme: str) -> None:
    style = (files("dpgen.report") / "page.css").read_text()
    light, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    block = light if scheme == "light" else rest[: rest.index("\n}")]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for ground in ("page", "card", "shade"):
        for ink in ("ink", "soft", "accent", "bad"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["bad"], colours["bad-card"]) >= 4.5
    for i in range(6):
        assert contrast(colours[f"c{i}"], colours["card"]) >= 4.5, i
