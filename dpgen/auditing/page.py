"""The page of an audit: findings with what each would have seen, and the curves of the games."""

from __future__ import annotations

from dpgen.auditing.findings import Audit, Curve, Finding
from dpgen.report.document import document
from dpgen.report.markup import Markup, element, together
from dpgen.report.tables import box

SIDE, MARGIN = 260, 34
SEEN, WOULD = "Seen", "Would have seen"
KINDS = {
    "deterministic": "Neighbours differ in one record; nothing is left to chance but the noise, "
    "which is taken away.",
    "two worlds": "Many runs with the record and many without it; a threshold fixed beforehand "
    "tells them apart as well as it can.",
    "one run": "One run with many canaries, each in or out by a coin; the guesses are counted.",
}


def render(audit: Audit) -> str:
    """Renders one self-contained HTML page, which loads nothing and runs no script."""
    kinds = [kind for kind in KINDS if any(f.kind == kind for f in audit.findings)]
    body = together(
        element(
            "header", element("h1", "Audit"),
            element("p", f"{audit.run}; {audit.date}; dpgen {audit.version}", class_="facts"),
        ),
        element("p", audit.verdict, class_="lead" if audit.passed else "alarm", role="status"),
        element("p", f"What is claimed: {audit.statement}"),
        *(element("p", sentence) for sentence in audit.meaning),
        *(
            _chapter(kind, [f for f in audit.findings if f.kind == kind])
            for kind in kinds
        ),
        _audited(audit),
        element("footer", element("p", f"Made by dpgen audit, version {audit.version}.")),
    )  # fmt: skip
    return document(f"Audit of {audit.run}", body)


def _audited(audit: Audit) -> Markup:
    """Lists the hashes of what was audited: the page speaks of nothing else."""
    files = {**audit.files, f"the statement in {audit.document}": audit.certificate}
    return element(
        "section",
        element("h2", "What was audited"),
        element("p", "SHA-256 of the certificate and of the files that it names.", class_="soft"),
        element(
            "dl",
            *(
                together(element("dt", name), element("dd", element("code", digest)))
                for name, digest in files.items()
            ),
            class_="hashes",
        ),
    )  # fmt: skip


def _chapter(kind: str, findings: list[Finding]) -> Markup:
    rows = [
        element(
            "tr",
            element("th", f.name, scope="row"),
            element("td", "ok" if f.passed else element("b", "violation", class_="bad")),
            element("td", f.seen, data_label=SEEN),
            element("td", f.power, data_label=WOULD),
        )
        for f in findings
    ]
    curves = [_figure(f.curve) for f in findings if f.curve is not None]
    return element(
        "section",
        element("h2", kind[0].upper() + kind[1:]),
        element("p", KINDS[kind], class_="soft"),
        box(kind, "words stacked", ["Test", "", SEEN, WOULD], [element("tbody", *rows)]),
        element("div", *curves, class_="charts little") if curves else None,
    )


def _figure(curve: Curve) -> Markup:
    """Plots true positives against false positives, and the most that the claim allows."""
    low, high = MARGIN, SIDE - 10

    def path(ys: tuple[float, ...]) -> str:
        spots = zip(curve.x, ys, strict=True)
        points = [
            f"{low + (high - low) * x:.1f},{SIDE - low - (SIDE - low - 10) * y:.1f}"
            for x, y in spots
        ]
        return "M" + " L".join(points)

    base = SIDE - low
    drawing = element(
        "svg",
        element("title", f"{curve.title}: true positive rate against false positive rate"),
        element("line", class_="tick", x1=low, y1=base, x2=high, y2=base),
        element("line", class_="tick", x1=low, y1=base, x2=low, y2=10),
        element("text", "false positive rate", x=high, y=base + 18, text_anchor="end"),
        element("text", "true positive rate", x=low + 6, y=20),
        element("g", element("path", class_="path", d=path(curve.limit)), class_="published"),
        element("g", element("path", class_="path", d=path(curve.y)), class_="line c0"),
        class_="chart", viewBox=f"0 0 {SIDE} {SIDE}", role="img",
    )  # fmt: skip
    caption = element(
        "figcaption", curve.title, element("span", " (dashed: the most that the claim allows)")
    )
    return element("figure", caption, drawing)
