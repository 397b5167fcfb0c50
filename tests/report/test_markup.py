from __future__ import annotations

from dpgen.report.markup import element, escape, together


def test_text_is_escaped_and_elements_are_not() -> None:
    inner = element("b", "1 < 2 & 'x'")
    assert inner == "<b>1 &lt; 2 &amp; &#x27;x&#x27;</b>"
    assert element("p", inner, "<i>") == f"<p>{inner}&lt;i&gt;</p>"
    assert together("<", None, inner) == f"&lt;{inner}"


def test_attributes_cannot_be_left_by_their_values() -> None:
    made = element("a", "x", title='" onclick="alert(1)', aria_label="<", class_="k")
    assert made == '<a title="&quot; onclick=&quot;alert(1)" aria-label="&lt;" class="k">x</a>'


def test_none_leaves_an_attribute_out_and_true_has_no_value() -> None:
    assert element("details", open=True, id=None) == "<details open></details>"


def test_floats_have_two_decimals_and_whole_numbers_none() -> None:
    assert element("line", x1=1 / 3, x2=4) == '<line x1="0.33" x2="4"/>'


def test_what_html_or_utf8_cannot_hold_is_replaced() -> None:
    assert escape("a\x00b\x1bc\ud800d\ne\tf") == "a\ufffdb\ufffdc\ufffdd\ne\tf"
    escape("\ud800").encode()
