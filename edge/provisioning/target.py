"""The printed reference target: a drawn portrait, a mark that cameras read, and a star to focus by; no person's face.

`vouch doctor --target FILE.pdf` makes it. The mark tells the doctor that the sheet is there: only then is a template
made of what the camera sees, so that nobody who happens to stand before it is looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np

from edge.config import DEFAULT_PACK
from edge.drivers.camera import Image
from edge.errors import ConfigError

MARK = "VOUCH TARGET 1"
WIDTH_MM, HEIGHT_MM = 148, 210  # A5
_DPI = 150
_PER_MM = _DPI / 25.4
_QUALITY = 92
# Of bench.jpg, 640 x 480: head and shoulders, 4 : 5.
_HEAD = (slice(75, 455), slice(173, 477))


def reference_portrait() -> Image:
    """BGR uint8, head and shoulders of the drawn person that the target shows. ConfigError where it is missing."""
    picture = cv2.imread(str(DEFAULT_PACK / "bench.jpg"), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError(f"{DEFAULT_PACK / 'bench.jpg'} cannot be read", todo="install the software again")
    return cast("Image", picture[_HEAD])


def draw() -> Image:
    """The sheet, BGR uint8, A5 upright at 150 dots an inch."""
    height, width = round(HEIGHT_MM * _PER_MM), round(WIDTH_MM * _PER_MM)
    sheet = np.full((height, width, 3), 255, np.uint8)
    portrait = reference_portrait()
    wide = round(118 * _PER_MM)
    high = round(wide * portrait.shape[0] / portrait.shape[1])
    top, left = round(6 * _PER_MM), (width - wide) // 2
    sheet[top : top + high, left : left + wide] = cv2.resize(portrait, (wide, high), interpolation=cv2.INTER_CUBIC)
    below = top + high + round(4 * _PER_MM)
    side = min(round(46 * _PER_MM), height - below - round(4 * _PER_MM))
    sheet[below : below + side, left : left + side] = _mark(side)
    _star(sheet, (width - left - side // 2, below + side // 2), side // 2)
    text = ["Vouch", "reference", "target 1", "hold flat", "at 40 cm"]
    for line, words in enumerate(text):
        at = (left + side + round(3 * _PER_MM), below + round((8 + 8 * line) * _PER_MM))
        cv2.putText(sheet, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.75, (60, 60, 60), 2, cv2.LINE_AA)
    return sheet


def save(path: Path) -> None:
    """Write the sheet as PDF (prints at its true size) or PNG, by the name's ending. ConfigError where that fails."""
    sheet = draw()
    match path.suffix.lower():
        case ".pdf":
            data = _pdf(sheet)
        case ".png":
            data = cv2.imencode(".png", sheet)[1].tobytes()
        case _:
            raise ConfigError(f"{path} is neither .pdf nor .png", todo="name the file target.pdf or target.png")
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}", todo="name another folder") from exc


def is_seen(frame_bgr: Image) -> bool:
    """Whether the mark is in the picture: some 60 pixels wide, not much turned."""
    try:
        text, _, _ = cv2.QRCodeDetector().detectAndDecode(frame_bgr)
    except cv2.error:  # OpenCV's own decoder trips over some patterns that are no code
        return False
    return bool(text == MARK)


def _mark(side: int) -> Image:
    code = cv2.QRCodeEncoder.create().encode(MARK)
    large = cv2.resize(code, (side, side), interpolation=cv2.INTER_NEAREST)
    return cast("Image", cv2.cvtColor(large, cv2.COLOR_GRAY2BGR))


def _star(sheet: Image, centre: tuple[int, int], radius: int, rays: int = 18) -> None:
    """A Siemens star: its grey core is the smaller, the sharper the lens."""
    step = 360 / (2 * rays)
    for ray in range(rays):
        cv2.ellipse(sheet, centre, (radius, radius), 0, 2 * ray * step, (2 * ray + 1) * step, (0, 0, 0), -1)


def _pdf(sheet: Image) -> bytes:
    """One page of the sheet's size that shows it as a JPEG (ISO 32000-1, 7.5 and 8.9.5)."""
    jpeg = cv2.imencode(".jpg", sheet, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1].tobytes()
    height, width = sheet.shape[:2]
    points = (WIDTH_MM * 72 / 25.4, HEIGHT_MM * 72 / 25.4)
    place = f"{points[0]:.2f} 0 0 {points[1]:.2f} 0 0 cm /Sheet Do".encode()
    page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {points[0]:.2f} {points[1]:.2f}] /Contents 4 0 R"
    image = f"<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"{page} /Resources << /XObject << /Sheet 5 0 R >> >> >>".encode(),
        _stream(b"<<", place),
        _stream(f"{image} /BitsPerComponent 8 /Filter /DCTDecode".encode(), jpeg),
    ]
    body, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    start = len(body)
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    body += b"".join(f"{at:010d} 00000 n \n".encode() for at in places)
    return bytes(body) + f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()


def _stream(dictionary: bytes, content: bytes) -> bytes:
    head = dictionary + f" /Length {len(content)} >>\nstream\n".encode()
    return head + content + b"\nendstream"
