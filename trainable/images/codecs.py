"""Codecs of compressed DICOM frames beyond those that pydicom finds by itself, and a look into a frame before decoding.

A plugin of pydicom (https://pydicom.github.io/pydicom/stable/guides/plugin_table.html): imagecodecs decodes JPEG
of 8 and 12 bits, JPEG Lossless, JPEG-LS, JPEG 2000 and HTJ2K. GDCM would too, but ends the process at a damaged frame;
pylibjpeg-libjpeg is under the GPL; Pillow keeps other threads waiting at JPEG 2000, takes no deep colours of it, and
gives RGB of a JPEG with Adobe's mark, of which pydicom makes RGB again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import imagecodecs
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

from trainable.images.codestreams import read_adobe_transform, read_jpeg_2000_header, read_jpeg_size

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.pixels.decoders.base import DecodeRunner

DECODER_DEPENDENCIES = dict.fromkeys(
    (
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
    ),
    ("imagecodecs",),
)
_lock = threading.Lock()
_JPEG_2000 = (*uid.JPEG2000TransferSyntaxes, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)


def choose_plugin(syntax: str) -> str:
    """The name of the plugin that decodes a transfer syntax, whatever else is installed: the same pixels everywhere."""
    if syntax in DECODER_DEPENDENCIES:
        return "imagecodecs"
    return "pydicom" if syntax == uid.RLELossless else "pillow"


def is_available(syntax: str) -> bool:
    """Whether this room decodes a transfer syntax: pydicom asks."""
    return syntax in DECODER_DEPENDENCIES


def add_codecs() -> None:
    """Offer these codecs to pydicom; a second call changes nothing."""
    with _lock:
        for syntax in DECODER_DEPENDENCIES:
            decoder = get_decoder(syntax)
            if "imagecodecs" not in decoder.available_plugins:
                decoder.add_plugin("imagecodecs", (__name__, "_decode_frame"))


def _decode_frame(frame: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of one frame, as pydicom wants them: interleaved by pixel."""
    syntax = runner.transfer_syntax
    if syntax in uid.JPEGLSTransferSyntaxes:
        pixels = imagecodecs.jpegls_decode(frame)
    elif syntax in _JPEG_2000:
        pixels = imagecodecs.jpeg2k_decode(frame)
    else:
        pixels = _decode_jpeg(frame, runner)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):  # JPEG 2000's own, taken back by its decoder
        runner.set_option("photometric_interpretation", "RGB")
    return pixels.tobytes()


def _decode_jpeg(frame: bytes, runner: DecodeRunner) -> NDArray[Any]:
    """The samples as they are coded. Which colours they are, Adobe's mark says, else what pydicom knows of them."""
    if runner.samples_per_pixel == 1:
        return imagecodecs.jpeg8_decode(frame)
    if (transform := read_adobe_transform(frame)) is not None:
        runner.set_option("photometric_interpretation", "YBR_FULL" if transform else "RGB")
    return imagecodecs.jpeg8_decode(frame, colorspace="RGB", outcolorspace="RGB")  # from one to the same: as they are


def check_frame(frame: bytes, syntax: str, *, width: int, height: int) -> None:
    """Raises ValueError for a frame whose own header names another size than the file's, that ends too early, or that
    is several.

    A decoder believes the frame: a damaged one costs it minutes and gigabytes, or gives half a slice.
    """
    if syntax in _JPEG_2000:
        header = read_jpeg_2000_header(frame)
        found = header and header[:2]
    elif syntax in DECODER_DEPENDENCIES:
        found = read_jpeg_size(frame)
        if b"\xff\xd9" not in frame:  # which coded pixels cannot hold
            raise ValueError("its compressed pixels end before their end marker; copy the file again")
    else:
        return
    start = b"\xff\x4f" if syntax in _JPEG_2000 else b"\xff\xd8"
    if any(end + start in frame for end in (b"\xff\xd9", b"\xff\xd9\0")):
        raise ValueError("its compressed pixels are several frames, its header says fewer; correct its header")
    if found != (width, height):
        named = "name no size" if found is None else f"name {found[0]} x {found[1]} pixels"
        raise ValueError(f"its compressed pixels {named}, its header {width} x {height}; one of them is damaged")
