"""Headers of compressed pixels: what size a JPEG, JPEG-LS or JPEG 2000 stream says it has, before it is decoded."""

from __future__ import annotations

from collections.abc import Iterator

MAX_TILES = 4096  # of a JPEG 2000 image: decoders take their time for each

_NO_FRAME_HEADERS = (0xC4, 0xC8, 0xCC)  # of the markers C0 to CF: tables, reserved, conditioning (ITU-T T.81, B.1.1.3)
_JPEG_LS = 0xF7  # ITU-T T.87
_APP14 = 0xEE


def read_jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header of JPEG and JPEG-LS (ITU-T T.81, B.2.2)."""
    for marker, at in _list_segments(frame):
        if _begins_frame(marker):
            return int.from_bytes(frame[at + 7 : at + 9], "big"), int.from_bytes(frame[at + 5 : at + 7], "big")
    return None


def read_adobe_transform(frame: bytes) -> int | None:
    """What Adobe's mark says of a JPEG's colours, 0 for RGB and 1 for YCbCr (ITU-T T.872, 6.5.3); None without it."""
    for marker, at in _list_segments(frame):
        if marker == _APP14 and frame[at + 4 : at + 9] == b"Adobe" and len(frame) > at + 15:
            return frame[at + 15]
        if _begins_frame(marker):
            break
    return None


def _list_segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """The markers of a JPEG's header, and where each stands."""
    at = frame.find(b"\xff\xd8") + 2
    while 2 <= at <= len(frame) - 9 and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        else:
            yield marker, at
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")


def _begins_frame(marker: int) -> bool:
    return marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADERS)


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
