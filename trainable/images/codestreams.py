"""Headers of compressed pixels: what size a JPEG, JPEG-LS or JPEG 2000 stream says it has, before it is decoded."""

from __future__ import annotations

MAX_TILES = 4096  # of a JPEG 2000 image: decoders take their time for each

_NO_FRAME_HEADERS = (0xC4, 0xC8, 0xCC)  # of the markers C0 to CF: tables, reserved, conditioning (ITU-T T.81, B.1.1.3)
_JPEG_LS = 0xF7  # ITU-T T.87


def read_jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header of JPEG and JPEG-LS (ITU-T T.81, B.2.2)."""
    at = frame.find(b"\xff\xd8") + 2
    while 2 <= at <= len(frame) - 9 and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADERS):
            return int.from_bytes(frame[at + 7 : at + 9], "big"), int.from_bytes(frame[at + 5 : at + 7], "big")
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def read_jpeg_2000_header(frame: bytes) -> tuple[int, int, int, int] | None:
    """Width, height, components and bits of the first, from the SIZ segment (ITU-T T.800, A.5.1); None without one.

    Raises ValueError for absurdly many tiles.
    """
    at = frame.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(frame) < at + 43:
        return None
    right, bottom, left, top, tile_width, tile_height = (
        int.from_bytes(frame[at + first : at + first + 4], "big") for first in range(8, 32, 4)
    )
    num_tiles = (-(-right // tile_width) * -(-bottom // tile_height)) if tile_width and tile_height else MAX_TILES + 1
    if num_tiles > MAX_TILES:
        raise ValueError(f"its compressed pixels have more than {MAX_TILES} tiles; they are damaged")
    num_components = int.from_bytes(frame[at + 40 : at + 42], "big")
    return right - left, bottom - top, num_components, (frame[at + 42] & 0x7F) + 1
