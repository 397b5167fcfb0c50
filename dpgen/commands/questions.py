"""`dpgen questions`: what people ask before and after their first run, with answers."""

from __future__ import annotations

import textwrap

import click

WIDTH = 92
QUESTIONS = (
    (
        "How many images do I need?",
        "It depends on epsilon, the number of classes and the size of the images; `dpgen plan` "
        "says what to expect before anything is charged. At epsilon 3 and delta 1e-5 the shapes "
        "of a class begin at about 200 images of 28x28 in grey of this class, or 390 of 32x32 in "
        "colour; how they vary takes four times as many. At epsilon 1 it is 2.7 times as many, at "
        "epsilon 10 about a third.",
    ),
    (
        "Which epsilon?",
        "The smallest whose images still serve. Whether one record was in the data changes the "
        "probability of anything that others see by a factor of at most 2.7 at epsilon 1, 20 at 3 "
        "and 22,026 at 10. `RELEASE.md` in each set says what an attacker could gain.",
    ),
    (
        "How long does it take, and do I need a GPU?",
        "Not for `pge` with --set mode=sketch, which is chosen without one: on two cores 720 "
        "images of 32x32 in colour take a minute, 60,000 of 28x28 in grey about ten minutes with "
        "60,000 images drawn, and 2 GiB of memory. The methods with DP-SGD on more than small "
        "images want one: an H100 takes 19,100 noised images a second of 28x28 (1.4 million "
        "parameters, bf16, 32 draws a record) in 20 GiB. `dpgen plan` measures your machine.",
    ),
    (
        "The images look like blobs of the right colour.",
        "There was too much noise for more, or the shapes lie in another place in each image, "
        "which a sketch of large or colour images does not learn. More records, fewer classes, a "
        "greater epsilon or a smaller --size help with the first; for the second there are dp-sad "
        "and dpdm, on a GPU and with 10,000 images or more: so say published results, none is "
        "measured here yet.",
    ),
    (
        "My images have several sizes, or some are grey.",
        "--size 32 brings the short side to 32 pixels and crops the centre square; --channels 3 "
        "or 1 makes all of them colour or grey.",
    ),
    (
        "It does not find my classes, or takes wrong folders for them.",
        "Put each class into a folder of its own, or add a metadata.csv with the columns "
        "file_name and label. --label-column names another column, --classes the classes of data "
        "whose labels are bare numbers. `dpgen inspect` shows what would be read, with --picture "
        "in a picture.",
    ),
    (
        "Some people have several images.",
        "Say where it stands who is who, as --unit patient_id or --unit folder, and how many of "
        "each may be used, --max-records-per-unit 1: then epsilon protects a person. Otherwise it "
        "protects one image.",
    ),
    (
        "It stopped, or the machine was switched off.",
        "Run the same command again: `dpgen train` goes on where it was and pays nothing twice. "
        "Until it has finished, its folder holds secret keys: give it, and backups of it, to "
        "nobody.",
    ),
    (
        "May I try several settings and keep the best?",
        "Every run is charged, and the charges on the same images add up to the limit in `dpgen "
        "ledger`. Try settings on public images, as --data digits, or on images that a finished "
        "run has drawn, which costs nothing. Choosing by scores of `dpgen evaluate` on private "
        "images is not covered by epsilon.",
    ),
    (
        "What may I hand on?",
        "The folder that `dpgen sample` made, all of it; a finished run as well. `dpgen verify` "
        "checks it, `dpgen card` writes your name and purpose into its pages, `dpgen sign` signs "
        "it. Not an unfinished run, not $DPGEN_HOME, and not the numbers and pictures of `dpgen "
        "inspect` and `dpgen evaluate`, which show private images without noise.",
    ),
    (
        "Where is it kept what was spent?",
        "In $DPGEN_HOME, by default ~/.local/state/dpgen: a key and the ledgers, which `dpgen "
        "ledger` lists. Back it up. Another installation knows nothing of them, so train on the "
        "same images in one alone.",
    ),
    (
        "It runs out of memory.",
        "Take a smaller --size, fewer images at once (--micro-batch 8) or a smaller preset "
        "(`dpgen settings METHOD` lists them). `dpgen plan` says how much a run takes.",
    ),
)


@click.command()
def questions() -> None:
    """Answer what people ask before and after their first run."""
    for question, answer in QUESTIONS:
        click.secho(question, bold=True)
        click.echo(f"{textwrap.fill(answer, WIDTH, break_on_hyphens=False)}\n")
