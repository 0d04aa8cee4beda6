"""Photos of every kind: upright RGB comes out, or a PhotoError with the right reason, and nothing on the screen."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facetl.data.metadata.header import read_header
from facetl.errors import PhotoError
from facetl.images import decode
from facetl.images.decode import read_photo

# pytest sets the warning filters anew for every test, ours with them; the last test below is the one on silence.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

RED, GREEN, BLUE, SAND = (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 200, 40)


def quarters() -> np.ndarray:
    """Four colours, one in each quarter of 24 × 40 pixels: no turn or mirroring maps it onto itself."""
    image = np.zeros((24, 40, 3), np.uint8)
    image[:12, :20], image[:12, 20:], image[12:, :20], image[12:, 20:] = RED, GREEN, BLUE, SAND
    return image


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    room = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(room, kind, **options)
    return room.getvalue()


def with_orientation(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    quality = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    return encoded(quarters(), kind, exif=exif, **lossless, **quality)


def reason(source: Path | bytes) -> str:
    with pytest.raises(PhotoError) as raised:
        read_photo(source)
    assert "\n" not in str(raised.value)
    return raised.value.reason


def png_of(
    width: int, height: int, lines: bytes, *, depth: int = 8, colour: int = 2, transparent: bytes = b""
) -> bytes:
    """A PNG written by hand: `lines` have their filter before them, `colour` is its colour type."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    header += chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims width × height pixels."""
    return png_of(width, height, bytes(1000))


class TestKinds:
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
    def test_lossless_formats_give_the_very_pixels(self, kind: str) -> None:
        lossless = {"lossless": True} if kind == "WEBP" else {}
        image = read_photo(encoded(quarters(), kind, **lossless))
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.flags.writeable
        np.testing.assert_array_equal(image, quarters())

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
    def test_compressed_tiff(self, compression: str) -> None:
        np.testing.assert_array_equal(read_photo(encoded(quarters(), "TIFF", compression=compression)), quarters())

    def test_jpeg_is_read_as_opencv_reads_it(self) -> None:
        rng = np.random.default_rng(3)
        smooth = cv2.resize(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8), (91, 67))
        data = encoded(smooth, "JPEG", quality=90)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(read_photo(data), expected)

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk_becomes_rgb(self, kind: str) -> None:
        options = {"quality": 98} if kind == "JPEG" else {}
        data = encoded(Image.fromarray(quarters()).convert("CMYK"), kind, **options)
        np.testing.assert_allclose(read_photo(data).astype(int), quarters(), atol=3)

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
    def test_a_palette_becomes_rgb(self, kind: str) -> None:
        data = encoded(Image.fromarray(quarters()).quantize(4), kind)
        np.testing.assert_array_equal(read_photo(data), quarters())

    def test_a_palette_with_transparency_keeps_its_colours(self) -> None:
        data = encoded(Image.fromarray(quarters()).quantize(4), "PNG", transparency=bytes([0, 60, 120, 255]))
        np.testing.assert_array_equal(read_photo(data), quarters())

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_transparency_is_dropped_not_blended(self, kind: str) -> None:
        alpha = np.full((24, 40, 1), 128, np.uint8)
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        data = encoded(np.concatenate([quarters(), alpha], axis=2), kind, **options)
        np.testing.assert_array_equal(read_photo(data), quarters())

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "BMP"])
    def test_grey_becomes_three_equal_channels(self, kind: str) -> None:
        grey = np.arange(6 * 7, dtype=np.uint8).reshape(6, 7) * 6
        np.testing.assert_array_equal(read_photo(encoded(grey, kind)), np.stack([grey] * 3, axis=2))

    def test_grey_with_alpha(self) -> None:
        pair = np.arange(6 * 7 * 2, dtype=np.uint8).reshape(6, 7, 2) * 3
        data = encoded(Image.merge("LA", _bands(pair)), "PNG")
        np.testing.assert_array_equal(read_photo(data), np.repeat(pair[..., :1], 3, axis=2))

    @pytest.mark.parametrize(
        ("depth", "colour", "transparent", "pixels", "expected"),
        [
            pytest.param(16, 4, b"", b"\x30\x31\x80\0\xf0\xf1\0\0", (0x30, 0xF0), id="16-bit grey with alpha"),
            pytest.param(16, 0, b"\x30\x31", b"\x30\x31\xf0\xf1", (0x30, 0xF0), id="16-bit grey, one transparent"),
            pytest.param(8, 0, b"\0\x30", b"\x30\xf0", (0x30, 0xF0), id="grey, one transparent"),
            pytest.param(4, 0, b"", b"\x3f", (0x33, 0xFF), id="4-bit grey"),
            pytest.param(2, 0, b"", b"\x70", (0x55, 0xFF), id="2-bit grey"),
        ],
    )
    def test_rare_kinds_of_png(
        self, depth: int, colour: int, transparent: bytes, pixels: bytes, expected: tuple[int, int]
    ) -> None:
        data = png_of(2, 1, b"\0" + pixels, depth=depth, colour=colour, transparent=transparent)
        np.testing.assert_array_equal(read_photo(data), [[[grey] * 3 for grey in expected]])

    def test_a_colour_profile_is_not_applied(self) -> None:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
        np.testing.assert_array_equal(read_photo(encoded(quarters(), "PNG", icc_profile=profile)), quarters())

    @pytest.mark.parametrize(("width", "height"), [(65_500, 2), (2, 65_500)])
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_sides_as_long_as_a_jpeg_may_have(self, kind: str, width: int, height: int) -> None:
        assert read_photo(encoded(np.zeros((height, width, 3), np.uint8), kind)).shape == (height, width, 3)

    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("PPM", {}), ("TIFF", {"compression": "group4"})])
    def test_one_bit_is_black_and_white(self, kind: str, options: dict[str, str]) -> None:
        bits = np.zeros((5, 9), bool)
        bits[1, 2:7], bits[3:, 0] = True, True
        data = encoded(Image.fromarray(bits), kind, **options)
        np.testing.assert_array_equal(read_photo(data), np.repeat(bits[..., None], 3, axis=2) * np.uint8(255))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
    def test_sixteen_bits_of_grey_are_scaled_not_clipped(self, kind: str) -> None:
        deep = (np.arange(24 * 40, dtype=np.uint16) * 68).reshape(24, 40)
        image = read_photo(encoded(deep, kind)).astype(int)
        np.testing.assert_allclose(image, np.repeat((deep >> 8)[..., None], 3, axis=2), atol=1)

    @pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
    def test_sixteen_bits_of_colour(self, suffix: str) -> None:
        deep = np.random.default_rng(0).integers(0, 65536, (9, 13, 3)).astype(np.uint16)
        data = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
        np.testing.assert_allclose(read_photo(data).astype(int), deep >> 8, atol=1)

    def test_a_pgm_written_by_hand(self) -> None:
        image = read_photo(b"P5\n# a comment\n3 2\n255\n" + bytes([0, 10, 20, 30, 40, 250]))
        np.testing.assert_array_equal(image[..., 1], [[0, 10, 20], [30, 40, 250]])
        assert image.shape == (2, 3, 3)

    def test_the_content_tells_the_format_not_the_name(self, tmp_path: Path) -> None:
        (tmp_path / "really_a_png.jpg").write_bytes(encoded(quarters(), "PNG"))
        np.testing.assert_array_equal(read_photo(tmp_path / "really_a_png.jpg"), quarters())

    @pytest.mark.parametrize(
        ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("GIF", {})]
    )
    def test_of_several_pictures_the_first_is_taken(self, kind: str, options: dict[str, bool]) -> None:
        other = Image.fromarray(255 - quarters())
        data = encoded(quarters(), kind, save_all=True, append_images=[other], **options)
        np.testing.assert_array_equal(read_photo(data), quarters())

    def test_of_several_jpegs_in_one_the_first_is_taken(self) -> None:
        other = Image.fromarray(255 - quarters())
        data = encoded(quarters(), "MPO", save_all=True, append_images=[other], quality=95)
        assert b"MPF\0" in data
        np.testing.assert_allclose(read_photo(data)[4:-4:15, 4:-4:31].astype(int), quarters()[4:-4:15, 4:-4:31], atol=6)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_avif_is_turned_once(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(quarters(), "AVIF", quality=100, subsampling="4:4:4", exif=exif)
        expected = TestOrientation.UPRIGHT[orientation](quarters())
        np.testing.assert_allclose(read_photo(data).astype(int), expected, atol=3)
        header = read_header(data)
        assert (header.width, header.height, header.orientation) == (40, 24, orientation)

    def test_avif_without_its_reader_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(quarters(), "AVIF")
        monkeypatch.setattr("facetl.data.metadata.header.can_read_avif", lambda: False)
        assert reason(data) == "needs-pillow>=11.3"


def _bands(pair: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(pair[..., band])) for band in range(2)]


class TestHeic:
    @pytest.fixture(autouse=True)
    def registered(self) -> None:
        pytest.importorskip("pillow_heif").register_heif_opener()

    def test_a_heic_photo(self) -> None:
        image = read_photo(encoded(quarters(), "HEIF", quality=-1, chroma=444))
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        np.testing.assert_allclose(image.astype(int), quarters(), atol=2)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_it_is_turned_once(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = read_photo(encoded(quarters(), "HEIF", quality=-1, chroma=444, exif=exif.tobytes()))
        expected = TestOrientation.UPRIGHT[orientation](quarters())
        np.testing.assert_allclose(image.astype(int), expected, atol=2)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_truncated(self, share: float) -> None:
        noise = np.random.default_rng(1).integers(0, 256, (60, 50, 3), dtype=np.uint8)
        data = encoded(noise, "HEIF")
        assert reason(data[: int(len(data) * share)]) == "truncated"

    def test_more_pixels_than_are_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(quarters(), "HEIF")
        monkeypatch.setattr(decode, "MAX_PIXELS", 24 * 40 - 1)
        assert reason(data) == "too-large"

    def test_without_the_extra_the_reason_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(quarters(), "HEIF")
        monkeypatch.setattr("facetl.data.metadata.header._heif_registered", lambda: False)
        assert reason(data) == "needs-facetl[heic]"


class TestOrientation:
    # What a viewer must show, from the EXIF standard: where the file's row 0 and column 0 are on the upright photo.
    UPRIGHT = {  # noqa: RUF012
        1: lambda stored: stored,
        2: lambda stored: stored[:, ::-1],
        3: lambda stored: stored[::-1, ::-1],
        4: lambda stored: stored[::-1],
        5: lambda stored: stored.transpose(1, 0, 2),
        6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
        7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda stored: stored.transpose(1, 0, 2)[::-1],
    }

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_photo_is_turned_upright(self, kind: str, orientation: int) -> None:
        image = read_photo(with_orientation(kind, orientation)).astype(int)
        expected = self.UPRIGHT[orientation](quarters())
        assert image.shape == expected.shape
        # JPEG blurs where the colours meet; the middle of every quarter is kept.
        rows, columns = (np.array([4, length - 5]) for length in image.shape[:2])
        np.testing.assert_allclose(image[np.ix_(rows, columns)], expected[np.ix_(rows, columns)], atol=6)

    def test_a_camera_on_its_side(self) -> None:
        # Orientation 6: the camera was turned anticlockwise, so what it stored at the left is the photo's top.
        top = read_photo(with_orientation("PNG", 6))[0]
        assert tuple(top[0]) == BLUE
        assert tuple(top[-1]) == RED

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_is_ignored(self, orientation: int) -> None:
        np.testing.assert_array_equal(read_photo(with_orientation("PNG", orientation)), quarters())

    def test_a_grey_16_bit_photo_is_turned_too(self) -> None:
        deep = (np.arange(6, dtype=np.uint16) * 10_000).reshape(2, 3)
        exif = Image.Exif()
        exif[0x0112] = 6
        image = read_photo(encoded(deep, "PNG", exif=exif))
        np.testing.assert_array_equal(image[..., 0], (deep >> 8).T[:, ::-1])

    def test_damaged_exif_does_not_cost_the_photo(self) -> None:
        whole = with_orientation("JPEG", 6)
        place = whole.index(b"Exif\0\0")
        damaged = whole[: place + 6] + b"\xff" * 12 + whole[place + 18 :]
        assert read_photo(damaged).shape == (24, 40, 3)


class TestCutShort:
    """Files that end too early, as downloads and full cards leave them."""

    @staticmethod
    def smooth(height: int = 256, width: int = 192) -> Image.Image:
        coarse = np.random.default_rng(7).integers(0, 256, (9, 7, 3), dtype=np.uint8)
        return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
    def test_a_jpeg_without_its_end_marker_is_whole(self, mode: str, options: dict[str, int]) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(self.smooth().convert(mode), "JPEG", exif=exif, **options)
        assert data.endswith(b"\xff\xd9")
        for cut in (1, 2):
            np.testing.assert_array_equal(read_photo(data[:-cut]), read_photo(data))

    def test_a_jpeg_cut_in_its_last_rows_keeps_the_rest(self) -> None:
        data = encoded(self.smooth(512), "JPEG", quality=92)
        whole = read_photo(data)
        for share in (0.99, 0.97):
            image = read_photo(data[: int(len(data) * share)])
            assert image.shape == whole.shape
            # 5% are 26 rows; JPEG's blocks here have 16.
            np.testing.assert_array_equal(image[: 512 - 48], whole[: 512 - 48])
            assert (image[-1, -8:] == 128).all()
        for share in (0.9, 0.8, 0.5):
            assert reason(data[: int(len(data) * share)]) == "truncated"

    def test_of_a_progressive_jpeg_the_last_bits_may_lack(self) -> None:
        data = encoded(self.smooth(), "JPEG", progressive=True, quality=92)
        whole = read_photo(data).astype(int)
        scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
        assert len(scans) == 10
        within_last = read_photo(data[: scans[-1] + 40]).astype(int)
        assert np.abs(within_last - whole).mean() < 4
        # The scan before gives the last bit of red's differences: still only a bit; the fourth, new coefficients.
        assert read_photo(data[: scans[-2] + 40]).shape == whole.shape
        assert reason(data[: scans[3] + 40]) == "truncated"

    @pytest.mark.parametrize("cut", [4, 12, 16])
    def test_a_png_without_its_last_chunk_is_whole(self, cut: int) -> None:
        np.testing.assert_array_equal(read_photo(encoded(quarters(), "PNG")[:-cut]), quarters())

    def test_a_photo_that_ends_in_grey_by_itself_is_whole(self) -> None:
        grey = np.full((64, 64, 3), 128, np.uint8)
        grey[:8] = 30
        assert read_photo(encoded(grey, "JPEG")).shape == (64, 64, 3)


class TestRefused:
    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        assert reason(tmp_path / "empty.jpg") == "empty-file"
        assert reason(b"") == "empty-file"

    def test_text_with_a_photo_s_name(self, tmp_path: Path) -> None:
        (tmp_path / "notes.jpg").write_text("Dear diary,\nBM is no photo.\n" * 20)
        assert reason(tmp_path / "notes.jpg") == "not-an-image"

    @pytest.mark.parametrize("data", [b"\0", bytes(5000), b"RIFF\0\0\0\0WAVEfmt ", b"%PDF-1.7"])
    def test_other_bytes(self, data: bytes) -> None:
        assert reason(data) == "not-an-image"

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "AVIF"])
    @pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
    def test_truncated(self, kind: str, share: float) -> None:
        noise = np.random.default_rng(1).integers(0, 256, (60, 50, 3), dtype=np.uint8)
        data = encoded(noise, kind)
        assert reason(data[: int(len(data) * share)]) == "truncated"

    @pytest.mark.parametrize(
        ("kind", "left", "expected"),
        [
            ("JPEG", 20, "broken"),
            ("PNG", 20, "truncated"),
            ("TIFF", 9, "truncated"),
            ("WEBP", 20, "truncated"),
            ("GIF", 9, "broken"),
        ],
    )
    def test_truncated_within_the_header(self, kind: str, left: int, expected: str) -> None:
        assert reason(encoded(quarters(), kind)[:left]) == expected

    @pytest.mark.parametrize("kind", ["TIFF", "PPM"])
    def test_32_bits_a_pixel(self, kind: str) -> None:
        assert reason(encoded(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), kind)) == "not-an-image"

    def test_32_bit_integers(self) -> None:
        assert reason(encoded(np.arange(12, dtype=np.int32).reshape(3, 4) << 20, "TIFF")) == "not-an-image"

    def test_missing_folder_and_forbidden(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert reason(tmp_path / "nowhere.jpg") == "unreadable"
        (tmp_path / "folder.jpg").mkdir()
        assert reason(tmp_path / "folder.jpg") == "unreadable"
        photo = tmp_path / "forbidden.png"
        photo.write_bytes(encoded(quarters(), "PNG"))

        def refuse(self: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(self))

        # Not by chmod: root may read everything.
        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(PhotoError, match=r"forbidden\.png: cannot be read \(Permission denied\)"):
            read_photo(photo)

    def test_the_message_names_the_photo(self, tmp_path: Path) -> None:
        (tmp_path / "half.png").write_bytes(encoded(quarters(), "PNG")[:60])
        with pytest.raises(PhotoError, match=r"half\.png"):
            read_photo(tmp_path / "half.png")


class TestNames:
    @pytest.mark.parametrize("name", ["Zoë Müller.png", "王小明 (1).png", "🙂.png", "a b\tc.png", "n" * 251 + ".png"])
    def test_any_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(encoded(quarters(), "PNG"))
        np.testing.assert_array_equal(read_photo(tmp_path / name), quarters())

    def test_a_name_that_is_not_utf_8(self, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
        try:
            path.write_bytes(encoded(quarters(), "PNG"))
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        np.testing.assert_array_equal(read_photo(path), quarters())

    def test_a_name_longer_than_the_system_allows(self, tmp_path: Path) -> None:
        assert reason(tmp_path / ("n" * 400 + ".png")) == "unreadable"


class TestBombs:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(png_claiming(10_000, 10_000), id="100 megapixels"),
            pytest.param(png_claiming(8001, 10_000), id="just above the limit"),
            pytest.param(png_claiming(60_000, 60_000), id="beyond Pillow's own limit"),
            pytest.param(b"P6\n100000 100000\n255\n" + bytes(100), id="pixmap"),
            pytest.param(b"P5\n20000 5000\n255\n" + bytes(100), id="greymap"),
        ],
    )
    def test_is_refused_before_anything_is_decoded(self, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        def decoded(*_: object, **__: object) -> None:
            pytest.fail("a bomb reached a decoder")

        monkeypatch.setattr(cv2, "imdecode", decoded)
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
        Image.preinit()
        tracemalloc.start()
        try:
            assert reason(data) == "too-large"
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()

    def test_a_forged_jpeg_and_tiff(self) -> None:
        jpeg = bytearray(encoded(quarters(), "JPEG"))
        place = jpeg.index(b"\xff\xc0") + 5
        jpeg[place : place + 4] = struct.pack(">HH", 20_000, 20_000)
        assert reason(bytes(jpeg)) == "too-large"
        tiff = bytearray(encoded(quarters(), "TIFF"))
        for tag in (256, 257):
            place = tiff.index(struct.pack("<H", tag) + b"\x04\0\x01\0\0\0")
            tiff[place + 8 : place + 12] = struct.pack("<I", 20_000)
        assert reason(bytes(tiff)) == "too-large"

    def test_the_limit_itself_is_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decode, "MAX_PIXELS", 24 * 40)
        assert read_photo(encoded(quarters(), "PNG")).shape == (24, 40, 3)
        monkeypatch.setattr(decode, "MAX_PIXELS", 24 * 40 - 1)
        assert reason(encoded(quarters(), "PNG")) == "too-large"

    def test_a_huge_file_is_not_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with (tmp_path / "huge.png").open("wb") as file:
            file.truncate(decode.MAX_BYTES + 1)  # sparse: takes no room
        monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read"))
        assert reason(tmp_path / "huge.png") == "too-large"


FUZZ = """
import sys
from pathlib import Path
import numpy as np
from facetl.errors import PhotoError
from facetl.images.decode import read_photo

outcomes = set()
for path in sorted(Path(sys.argv[1]).iterdir()):
    whole = path.read_bytes()
    rng = np.random.default_rng(len(whole))
    for turn in range(200):
        data = bytearray(whole)
        first, last = sorted(int(place) for place in rng.integers(0, len(data), 2))
        if turn % 4 == 0:
            del data[last:]
        elif turn % 4 == 1:
            del data[first:last]
        elif turn % 4 == 2:
            data[last:last] = data[first:last]
        else:
            for _ in range(1 + turn % 3):
                data[rng.integers(min(len(data), 10 ** rng.integers(1, 5)))] = rng.integers(256)
        try:
            image = read_photo(bytes(data))
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, (path, turn, image.shape)
            outcomes.add("decoded")
        except PhotoError as error:
            outcomes.add(error.reason)
print(*sorted(outcomes))
"""


def test_mutated_photos_decode_or_are_refused_in_silence(tmp_path: Path) -> None:
    """In a process of its own: the C libraries below write to file descriptor 2, whatever Python does with stderr."""
    rng = np.random.default_rng(5)
    image = Image.fromarray(cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (48, 36)))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    for name, kind, options in [
        ("plain", "JPEG", {"exif": exif}),
        ("progressive", "JPEG", {"progressive": True, "icc_profile": bytes(100)}),
        ("plain", "PNG", {"exif": exif, "icc_profile": bytes(100)}),
        ("plain", "WEBP", {"exif": exif}),
        ("lzw", "TIFF", {"compression": "tiff_lzw"}),
        ("jpeg", "TIFF", {"compression": "jpeg"}),
        ("plain", "BMP", {}),
        ("plain", "GIF", {}),
        ("plain", "AVIF", {"exif": exif}),
        ("plain", "PPM", {}),
    ]:
        (tmp_path / f"{name}.{kind}").write_bytes(encoded(image, kind, **options))
    (tmp_path / "palette.PNG").write_bytes(encoded(image.quantize(8), "PNG", transparency=1))
    # Pillow logs this one: an impossible number of samples a pixel.
    tiff = bytearray(encoded(image, "TIFF"))
    place = tiff.index(struct.pack("<HHI", 277, 3, 1)) + 8
    tiff[place : place + 2] = struct.pack("<H", 54_787)
    (tmp_path / "samples.TIFF").write_bytes(tiff)
    (tmp_path / "cmyk.JPEG").write_bytes(encoded(image.convert("CMYK"), "JPEG"))
    done = subprocess.run([sys.executable, "-c", FUZZ, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    assert {"broken", "decoded", "not-an-image"} <= set(done.stdout.split())
