"""The documents that give trouble: a scan, two encrypted ones, a damaged one, a copy.

The encrypted ones need random salts; they come from a seeded generator here, so that the files
are the same every time. That makes them worthless as secrets, which they are not.
"""

import random
import secrets
import shutil
from io import BytesIO
from pathlib import Path
from unittest import mock

import pypdfium2
from letters import write_legacy_letter
from PIL import Image, ImageFilter
from pypdf import PdfReader, PdfWriter
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable
from sheets import INK, Sheet, body, gap, paragraphs, set_pages, style

NEEDED_PASSWORD = "harvest-moon-41"  # noqa: S105 - printed in the README; nothing is secret here
_DOTS_PER_INCH = 120
_KEPT_OF_DAMAGED = 0.35


def write_odd(folder: Path, documents: Path) -> None:
    """Writes all of them; some are made from documents that are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "plain.pdf"
    set_pages(plain, Sheet("Delivery note", "Ostrander Lumber"), _delivery_story())
    _scan(plain, folder / "scanned-delivery-note.pdf")
    set_pages(plain, Sheet("Closing your account", "Tidewater Credit Union"), _closing_story())
    _encrypt(plain, folder / "encrypted-empty-password.pdf", "")
    set_pages(plain, Sheet("Salary review", "Personnel"), _salary_story())
    _encrypt(plain, folder / "encrypted-needs-password.pdf", NEEDED_PASSWORD)
    plain.unlink()
    whole = (documents / "contracts" / "consulting-agreement-bluefern.pdf").read_bytes()
    (folder / "damaged.pdf").write_bytes(whole[: int(len(whole) * _KEPT_OF_DAMAGED)])
    write_legacy_letter(folder / "angebot-innenhof-1998.txt")
    shutil.copyfile(
        documents / "invoices" / "lakeside-electric-10482.pdf",
        folder / "Copy of lakeside-electric-10482 (1).pdf",
    )


def _scan(source: Path, target: Path) -> None:
    """A page as a cheap office scanner gives it: grey, a little turned, dusty; no text."""
    with pypdfium2.PdfDocument(source) as document:
        page = document[0].render(scale=_DOTS_PER_INCH / 72).to_pil().convert("L")
    page = page.rotate(0.8, Image.Resampling.BICUBIC, fillcolor=246)
    page = page.filter(ImageFilter.GaussianBlur(0.6)).point(lambda grey: 18 + grey * 228 // 255)
    dust = random.Random(1997)
    for _ in range(260):
        at = (dust.randrange(page.width), dust.randrange(page.height))
        page.putpixel(at, dust.randrange(60, 200))
    jpeg = BytesIO()
    page.save(jpeg, "JPEG", quality=50)
    canvas = Canvas(str(target), pagesize=A4, invariant=1)
    canvas.setTitle("Scan_0093")
    canvas.drawImage(ImageReader(jpeg), 0, 0, *A4)
    canvas.save()


def _encrypt(source: Path, target: Path, user_password: str) -> None:
    """AES-256, with an owner's password that nobody needs."""
    seeded = random.Random(source.read_bytes())
    writer = PdfWriter(clone_from=PdfReader(source))
    with mock.patch.object(secrets, "token_bytes", seeded.randbytes):
        writer.encrypt(user_password, "owner", algorithm="AES-256")
        writer.write(target)


def _delivery_story() -> list[Flowable]:
    lines = paragraphs(
        [
            "OSTRANDER LUMBER & SUPPLY\nDelivery note no. 60218".replace("&", "&amp;"),
            "Delivered to: Hollis Boatworks, Pier 6\nDate: 8 April 2026        Driver: T. Brandt",
            "   40    white oak boards, 5/4 x 8 in x 10 ft\n   12    marine plywood sheets, 18 mm\n"
            "    6    tins varnish, 1 gal\n    1    pallet, to be returned",
            "2 boards split, to be credited.",
            "Received in good order: R. Hollis",
        ],
        style("Courier", 13, 1.5, spaceAfter=20, textColor=INK),
    )
    return [gap(15), *lines]


def _closing_story() -> list[Flowable]:
    return paragraphs(
        [
            "<b>Tidewater Credit Union</b>\n310 Wharf Street, Norfolk, Virginia 23510",
            "August 14, 2026",
            "Mr. Leonard Abernathy\n52 Larch Court\nSuffolk, Virginia 23434",
            "<b>Subject: Closing of savings account ending in 7731</b>",
            "Dear Mr. Abernathy,",
            "As you asked on August 10, we have closed your savings account ending in 7731. The final "
            "balance of $2,418.66, with interest to the day of closing, was moved to your checking "
            "account. Please destroy the passbook.",
            "If you did not ask for this, call us at (757) 555-0112 by August 28, 2026.",
            "Yours truly,",
            "Denise Fairchild\nMember Services",
        ],
        body("Helvetica", 11),
    )


def _salary_story() -> list[Flowable]:
    return paragraphs(
        [
            "<b>Confidential: salary review 2026</b>",
            "Employee no. 4410 moves from grade 6 to grade 7 on 1 July 2026. The new salary is "
            "£38,400 a year.",
            "F. Adeyemi, Personnel",
        ],
        body("Helvetica", 11),
    )
