"""The section of what people's verdicts say: how many labels are wrong, and what a cut would do."""

from __future__ import annotations

from smelt.flowchart.work import Work
from smelt.report.audits import audits
from smelt.report.blocks import Block, Section, paragraph, section, table


def audit(work: Work) -> Section | None:
    """Of every split that was audited; nothing where none was."""
    blocks: list[Block] = []
    for one in audits(work):
        blocks += [paragraph(sentence) for sentence in one.sentences()]
        blocks += table(one.cuts()) + table(one.selections())
    intro = (
        "A person looked at images drawn at random (smelt audit) and said of each whether its label is "
        "right. What "
        "follows from that for all images is calibrated; everything else on this page is a guess beside it."
    )
    return section("audit", "How many labels are wrong", blocks, intro)
