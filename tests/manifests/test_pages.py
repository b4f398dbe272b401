"""The pages' style: colors that everybody can tell apart, nothing loaded from anywhere, and a viewer that works."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from manifests import pages

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42"
    "mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
# Machado, Oliveira and Fernandes (IEEE TVCG 2009), severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _coded(rgb: np.ndarray) -> np.ndarray:
    rgb = np.clip(rgb, 0, 1)
    return np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** (1 / 2.4) - 0.055)


def _contrast(one: str, other: str) -> float:
    light = sorted(float(_linear(_rgb(color)) @ [0.2126, 0.7152, 0.0722]) for color in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


def _variables(dark: bool) -> dict[str, str]:
    light, night = pages.stylesheet().split("@media (prefers-color-scheme: dark)")[:2]
    found = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{3,6});", light))
    if dark:
        found |= dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{3,6});", night.split("}")[0]))
    return {
        name: "#" + "".join(2 * c for c in value[1:]) if len(value) == 4 else value for name, value in found.items()
    }


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("series", [pages.LIGHT, pages.DARK], ids=["light", "dark"])
def test_series_are_told_apart_by_everybody(series: tuple[str, ...], sight: str) -> None:
    from skimage.color import deltaE_ciede2000, rgb2lab

    seen = _coded(_linear(np.array([_rgb(color) for color in series])) @ np.transpose(SIGHT[sight]))
    lab = rgb2lab(seen[None])[0]
    distance = deltaE_ciede2000(lab[:, None], lab[None])[np.triu_indices(len(series), 1)]
    assert distance.min() >= 13


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_series_stand_out_from_their_ground(dark: bool) -> None:
    colors = _variables(dark)
    for ground in ("--ground", "--card"):
        for text in ("--ink", "--soft", "--link", "--good", "--bad", "--warn"):
            assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for kind, text in (("error", "--bad"), ("warn", "--warn"), ("note", "--link")):
        for color in (text, "--ink", "--soft"):
            assert _contrast(colors[color], colors[f"--{kind}-ground"]) >= 4.5, (kind, color)
    for number in range(1, len(pages.LIGHT) + 1):
        assert _contrast(colors[f"--c{number}"], colors["--card"]) >= 3


class Tags(HTMLParser):
    """Complains where a tag is closed that is not open; loads: what attributes point to."""

    VOID = ("meta", "img", "input", "br", "hr", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "li") and self.open[-1] != tag:
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def check_page(page: str) -> None:
    """Well-formed, and nothing in it is loaded from anywhere."""
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    tags = Tags()
    tags.feed(own)
    assert not tags.open
    assert all(found.startswith(("data:image/", "#")) for found in tags.loads)
    assert not re.search(r"@import|url\(", own)
    assert "default-src 'none'" in own and 'name="viewport"' in own


TEMPLATE = """{% extends "page.html.j2" %}{% from "macros.html.j2" import image, findings %}
{% block title %}{{ name }}{% endblock %}{% block main %}<h1>{{ name }}</h1>
<section>{{ findings(entries) }}</section>
<section>{% for title in ("first", "second") %}
<figure class="shot" data-title="{{ title }}">{{ image(lq, "LQ", "LQ of " ~ name) }}
{{ image(gt, "GT", "GT of " ~ name) }}
<button type="button" data-open="difference">difference</button></figure>{% endfor %}</section>
<details><summary>plots</summary><div class="plot" id="p1"></div></details>{% endblock %}"""


@pytest.fixture
def page(tmp_path: Path) -> str:
    (tmp_path / "t.html.j2").write_text(TEMPLATE)
    entry = {"severity": "error", "text": "<b>bad</b>", "names": ["<i>.png"], "advice": "", "command": "", "task": ""}
    figure = {"data": [pages.line(0, "</script>", [0, 1], [1, 2])], "layout": pages.layout("step", "PSNR, dB")}
    return pages.render(
        str(tmp_path / "t.html.j2"), figures={"p1": figure}, name="<img src=x>", entries=[entry], lq=PIXEL, gt=PIXEL
    )


def test_text_is_escaped_and_nothing_is_loaded(page: str) -> None:
    check_page(page)
    assert "<img src=x>" not in page and "<b>bad</b>" not in page and "<i>.png" not in page
    assert "&lt;img src=x&gt;" in page and page.count("</script>") == 4  # plotly, images, figures, our own
    for control in ("blink", "difference", "overlay"):
        assert f'data-mode="{control}"' in page


@pytest.mark.slow
def test_the_viewer_in_a_browser(page: str, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    path = tmp_path / "page.html"
    path.write_text(page)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for scheme, motion in (("light", "no-preference"), ("dark", "reduce")):
            context = browser.new_context(
                viewport={"width": 360, "height": 700}, color_scheme=scheme, reduced_motion=motion
            )
            shown, errors = context.new_page(), []
            shown.set_default_timeout(120_000)  # a machine may be busy
            shown.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            shown.on("console", lambda text, errors=errors: errors.append(text.text) if text.type == "error" else None)
            shown.goto(f"file://{path}")
            assert shown.evaluate("document.documentElement.scrollWidth") <= 360
            shown.click("summary")
            shown.wait_for_selector("#p1 .main-svg")
            line = shown.eval_on_selector("#p1 .scatterlayer .js-line", "line => line.style.stroke")
            series = pages.LIGHT if scheme == "light" else pages.DARK
            assert line == "rgb({}, {}, {})".format(*(int(series[0][i : i + 2], 16) for i in (1, 3, 5)))
            shown.click("[data-open=difference]")
            assert shown.eval_on_selector("#viewer-stage", "s => s.style.filter") == "brightness(4)"
            assert shown.eval_on_selector_all("#viewer-stage img", "all => all.length") == 2
            shown.keyboard.press("b")
            now = "[...document.querySelectorAll('#viewer-stage figure')].findIndex(f => f.classList.contains('now'))"
            if motion == "reduce":
                shown.wait_for_timeout(900)
                assert shown.evaluate(now) == 0  # it stands still until it is asked to play
                shown.click("#viewer-stage")
                assert shown.evaluate(now) == 1
            else:
                shown.wait_for_selector("#viewer-stage figure:nth-child(2).now")
                shown.keyboard.press("Space")
                assert shown.text_content("#viewer-pause") == "Play"
            shown.keyboard.press("o")
            assert shown.eval_on_selector("#viewer-stage figure + figure", "f => f.style.clipPath").startswith("inset(")
            shown.keyboard.press("ArrowRight")
            assert shown.text_content("#viewer-title") == "second"
            shown.keyboard.press("Escape")
            assert not shown.evaluate("document.querySelector('#viewer').open")
            assert not errors
            context.close()
        browser.close()
