"""Takes screenshots of an HTML page in Chromium, at laptop and phone width, light and dark.

    python scripts/screenshots.py report.html --out shots

Writes a PNG per width and scheme, whole pages, and ends with an error where a page is wider than
its window, or where a label of a chart is cut at the chart's edge or lies over another one. Needs a
`chromium` on the path; speaks to it through a pipe, so no port is opened.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """Chromium with one empty page."""

    def __init__(self, program: str, profile: str) -> None:
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()

        def wire() -> None:  # Chromium reads commands from 3 and writes answers to 4.
            spares = os.dup(read_commands), os.dup(write_answers)
            os.dup2(spares[0], 3)
            os.dup2(spares[1], 4)

        self._process = subprocess.Popen(
            [program, *SWITCHES, f"--user-data-dir={profile}"],
            preexec_fn=wire,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self._n_sent, self._rest, self._session = 0, b"", None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = session

    def __call__(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends a command of the DevTools protocol and waits for its answer."""
        self._n_sent += 1
        message: dict[str, Any] = {"id": self._n_sent, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._n_sent:
            continue
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, event: str) -> None:
        while self._next().get("method") != event:
            continue

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._answers, 1 << 20)
            if not chunk:
                raise RuntimeError("chromium ended by itself")
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)


# Labels of every chart that shows: those that reach over its edge, and pairs that overlap.
LABELS = """[...document.querySelectorAll('svg.chart')].flatMap(svg => {
  const edge = svg.getBoundingClientRect(), wrong = [];
  if (!edge.width) return wrong;
  const texts = [...svg.querySelectorAll('text')].map(
    t => [t.textContent, t.getBoundingClientRect()]);
  texts.forEach(([words, box], i) => {
    if (box.left < edge.left - .5 || box.right > edge.right + .5 ||
        box.top < edge.top - .5 || box.bottom > edge.bottom + .5) wrong.push('cut: ' + words);
    texts.slice(i + 1).forEach(([others, other]) => {
      const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      if (across > 1 && down > 3) wrong.push('overlap: ' + words + ' / ' + others);
    });
  });
  return wrong;
})"""


def shoot(
    browser: Browser, page: Path, width: int, scheme: str, unfold: bool
) -> tuple[bytes, int, list[str]]:
    """Takes a PNG of the whole page, measures the width of its content, and lists what is wrong
    with labels of charts.
    """
    browser("Page.enable")
    browser(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
    )  # fmt: skip
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser("Emulation.setEmulatedMedia", features=[feature])
    browser("Page.navigate", url=page.resolve().as_uri())
    browser.wait_for("Page.loadEventFired")
    unfolded = "document.querySelectorAll('details').forEach(d => d.open = true);" * unfold
    # Pictures further down would load only when they are near: load them at once.
    eager = "document.querySelectorAll('img').forEach(i => i.loading = 'eager');"
    expression = (
        f"{unfolded}{eager}Promise.all([...document.images].map(i => i.decode().catch(() => 0)))"
        ".then(() => document.documentElement.scrollWidth)"
    )
    answer = browser(
        "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
    )
    labels = browser("Runtime.evaluate", expression=LABELS, returnByValue=True)
    picture = browser("Page.captureScreenshot", captureBeyondViewport=True, format="png")
    found = int(answer["result"]["value"])
    return base64.b64decode(picture["data"]), found, labels["result"]["value"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", type=int, nargs="+", default=[1280, 390])
    parser.add_argument("--unfold", action="store_true", help="open everything that folds")
    args = parser.parse_args()
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("there is no chromium on the path: apt-get install chromium")
    args.out.mkdir(parents=True, exist_ok=True)
    wide, wrong = [], []
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(program, profile)
        try:
            for width in args.widths:
                for scheme in ("light", "dark"):
                    png, needed, labels = shoot(browser, args.page, width, scheme, args.unfold)
                    path = args.out / f"{args.page.stem}-{width}-{scheme}.png"
                    path.write_bytes(png)
                    print(f"{path}: content is {needed} wide")
                    wide += [path.name] if needed > width else []
                    wrong += [f"{path.name}: {label}" for label in labels]
        finally:
            browser.close()
    if wide:
        raise SystemExit(f"wider than its window: {', '.join(wide)}")
    if wrong:
        raise SystemExit("labels of charts:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
