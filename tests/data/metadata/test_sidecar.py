"""Regions written beside photos: read back the same, every other byte kept, the photo untouched, never half a file."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetl.data.metadata.regions import Region, read_regions
from facetl.data.metadata.sidecar import sidecar_content, write_sidecar
from facetl.errors import DataError

ADA = Region("Ada & <Lovelace>", (0.1, 0.2, 0.35, 0.6))
GRACE = Region("Grace", (0.5, 0.5, 0.75, 0.9))

HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<!-- a comment -->\n'
# With what other programs keep: prefixes of their own, edits, tags, a region of a kind and with fields of its own.
FOREIGN = (
    HEAD
    + """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 6.0">
 <R:RDF xmlns:R="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <R:Description R:about="" xmlns:darktable="http://darktable.sf.net/" darktable:history="a&#10;b  c &gt; d">
   <darktable:masks/>
  </R:Description>
  <R:Description R:about="" xmlns:f="http://www.metadataworkinggroup.com/schemas/regions/"
    xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:a="http://ns.adobe.com/xmp/sType/Area#">
   <f:Regions R:parseType="Resource">
    <f:AppliedToDimensions d:w="{w}" d:h="{h}" d:unit="pixel"/>
    <f:RegionList><R:Bag>
     <R:li><R:Description f:Name="Gr&#97;ce" f:Type="Face" f:Rotation="0.5"><f:Area
       a:x=".625" a:y=".7" a:w=".25" a:h=".4"
       a:unit="normalized"/></R:Description></R:li>
     <R:li f:Name="Rex" f:Type="Pet"><f:Area a:x=".225" a:y=".4" a:w=".25" a:h=".4"/></R:li>
     <R:li f:Type="Face" f:Name="Nobody's"/>
    </R:Bag></f:RegionList>
   </f:Regions>
  </R:Description>
 </R:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
)


def foreign(w: int = 80, h: int = 60) -> bytes:
    return FOREIGN.replace("{w}", str(w)).replace("{h}", str(h)).encode()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return make(tmp_path / "IMG_1.jpg")


def make(path: Path, orientation: int = 1) -> Path:
    exif, room = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(room, "JPEG", exif=exif)
    path.write_bytes(room.getvalue())
    return path


def boxes(regions: list[Region]) -> np.ndarray:
    return np.array([region.box for region in regions])


class TestNew:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_what_is_written_is_read(self, tmp_path: Path, orientation: int) -> None:
        photo = make(tmp_path / "a.jpg", orientation)
        assert write_sidecar(photo, [ADA, GRACE]) == tmp_path / "a.jpg.xmp"
        found = read_regions(photo)
        assert [region.name for region in found] == [ADA.name, GRACE.name]
        np.testing.assert_allclose(boxes(found), boxes([ADA, GRACE]), atol=2e-6)

    def test_the_stored_dimensions_and_the_centre_are_written(self, tmp_path: Path) -> None:
        text = write_sidecar(make(tmp_path / "a.jpg", 6), [ADA]).read_text()
        assert 'stDim:w="80" stDim:h="60"' in text
        # Orientation 6: upright x is 1 − stored y, upright y is stored x.
        assert 'stArea:x="0.400000" stArea:y="0.775000" stArea:w="0.400000" stArea:h="0.250000"' in text

    def test_the_photo_is_not_touched_and_nothing_else_is_left(self, photo: Path) -> None:
        before, seen = photo.read_bytes(), photo.stat()
        write_sidecar(photo, [ADA])
        assert photo.read_bytes() == before
        assert photo.stat().st_mtime_ns == seen.st_mtime_ns
        assert {path.name for path in photo.parent.iterdir()} == {"IMG_1.jpg", "IMG_1.jpg.xmp"}

    def test_who_may_read_the_photo_may_read_it(self, photo: Path) -> None:
        photo.chmod(0o750)
        assert stat.S_IMODE(write_sidecar(photo, [ADA]).stat().st_mode) == 0o640

    def test_the_content_alone(self, photo: Path) -> None:
        content = sidecar_content(photo, [ADA, GRACE])
        assert [path.name for path in photo.parent.iterdir()] == ["IMG_1.jpg"]
        assert write_sidecar(photo, [ADA, GRACE]).read_bytes() == content
        assert sidecar_content(photo, [ADA, GRACE]) == content

    @pytest.mark.parametrize("content", [b"", b" \n"])
    def test_an_empty_sidecar_is_as_none(self, photo: Path, content: bytes) -> None:
        photo.with_name("IMG_1.jpg.xmp").write_bytes(content)
        write_sidecar(photo, [ADA])
        assert [region.name for region in read_regions(photo)] == [ADA.name]

    def test_no_regions(self, photo: Path) -> None:
        assert write_sidecar(photo, []).exists()
        assert read_regions(photo) == []


class TestForeign:
    def test_every_other_byte_stays(self, photo: Path) -> None:
        sidecar = photo.with_name("IMG_1.xmp")
        sidecar.write_bytes(foreign())
        sidecar.chmod(0o604)
        assert write_sidecar(photo, [ADA]) == sidecar
        after = sidecar.read_bytes()
        place = foreign().index(b"</R:Bag>")
        assert after.startswith(foreign()[:place])
        assert after.endswith(foreign()[place:])
        assert len(after) > len(foreign())
        assert stat.S_IMODE(sidecar.stat().st_mode) == 0o604
        # Rex the pet lies in the same place as Ada, and is another.
        assert [region.name for region in read_regions(photo)] == ["Grace", "Rex", ADA.name]

    def test_written_twice_is_written_once(self, photo: Path) -> None:
        photo.with_name("IMG_1.jpg.xmp").write_bytes(foreign())
        first = write_sidecar(photo, [ADA, GRACE]).read_bytes()
        seen = photo.with_name("IMG_1.jpg.xmp").stat()
        assert write_sidecar(photo, [ADA, GRACE]).read_bytes() == first
        assert photo.with_name("IMG_1.jpg.xmp").stat().st_ino == seen.st_ino

    def test_the_same_name_keeps_the_other_program_s_fields(self, photo: Path) -> None:
        photo.with_name("IMG_1.jpg.xmp").write_bytes(foreign())
        assert write_sidecar(photo, [GRACE]).read_bytes() == foreign()

    def test_another_name_takes_the_place_of_the_one_there(self, photo: Path) -> None:
        photo.with_name("IMG_1.jpg.xmp").write_bytes(foreign())
        after = write_sidecar(photo, [Region("Hopper", GRACE.box)]).read_bytes()
        assert [region.name for region in read_regions(photo)] == ["Rex", "Hopper"]
        assert b"Gr&#97;ce" not in after
        assert b"Nobody's" in after
        assert b'darktable:history="a&#10;b  c &gt; d"' in after

    def test_without_regions_they_are_added_behind_the_rest(self, photo: Path) -> None:
        text = FOREIGN[: FOREIGN.index('  <R:Description R:about="" xmlns:f')] + FOREIGN[FOREIGN.index(" </R:RDF>") :]
        photo.with_name("IMG_1.jpg.xmp").write_text(text)
        after = write_sidecar(photo, [ADA]).read_bytes()
        place = text.encode().index(b"</R:RDF>")
        assert after.startswith(text.encode()[:place])
        assert after.endswith(text.encode()[place:])
        assert [region.name for region in read_regions(photo)] == [ADA.name]

    def test_an_empty_list_gets_its_first_region(self, photo: Path) -> None:
        start, end = FOREIGN.index("<R:Bag>"), FOREIGN.index("</R:Bag>")
        text = foreign().decode().replace(FOREIGN[start : end + 8], "<R:Bag/>")
        photo.with_name("IMG_1.jpg.xmp").write_text(text)
        write_sidecar(photo, [ADA])
        assert [region.name for region in read_regions(photo)] == [ADA.name]
        assert b"darktable:masks" in photo.with_name("IMG_1.jpg.xmp").read_bytes()

    def test_a_byte_order_mark(self, photo: Path) -> None:
        photo.with_name("IMG_1.jpg.xmp").write_bytes(b"\xef\xbb\xbf" + foreign())
        after = write_sidecar(photo, [ADA]).read_bytes()
        assert after.startswith(b"\xef\xbb\xbf" + foreign()[: foreign().index(b"</R:Bag>")])

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_its_encoding_stays(self, photo: Path, encoding: str) -> None:
        text = foreign().decode().replace("\ufeff", "")
        photo.with_name("IMG_1.jpg.xmp").write_bytes(text.encode(encoding))
        after = write_sidecar(photo, [ADA, Region("王小明", GRACE.box)]).read_bytes()
        place = text.index("</R:Bag>")
        assert after.decode(encoding).endswith(text[place:])
        assert after[:2] == text.encode(encoding)[:2]
        assert [region.name for region in read_regions(photo)] == ["Rex", ADA.name, "王小明"]

    def test_letters_that_its_encoding_lacks_are_written_by_number(self, photo: Path) -> None:
        text = '<?xml version="1.0" encoding="ISO-8859-1"?>\n' + foreign().decode().replace("\ufeff", "é")
        photo.with_name("IMG_1.jpg.xmp").write_bytes(text.encode("latin-1"))
        after = write_sidecar(photo, [Region("王 é", GRACE.box)]).read_bytes()
        assert b"&#29579; \xe9" in after
        assert [region.name for region in read_regions(photo)] == ["Rex", "王 é"]

    def test_regions_drawn_on_the_upright_photo_are_joined_by_such(self, tmp_path: Path) -> None:
        photo = make(tmp_path / "a.jpg", 6)
        (tmp_path / "a.jpg.xmp").write_bytes(foreign(w=60, h=80))
        write_sidecar(photo, [ADA])
        np.testing.assert_allclose(read_regions(photo)[-1].box, ADA.box, atol=2e-6)

    def test_regions_of_another_shape_are_not_mixed(self, photo: Path) -> None:
        sidecar = photo.with_name("IMG_1.jpg.xmp")
        sidecar.write_bytes(foreign(w=80, h=30))
        with pytest.raises(DataError, match="another shape"):
            write_sidecar(photo, [ADA])
        assert sidecar.read_bytes() == foreign(w=80, h=30)


class TestRefused:
    @pytest.mark.parametrize(
        "content",
        [
            b"not XMP",
            b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
            b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
            b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
            "<?xml version='1.0' encoding='utf-16'?><a/>".encode("utf-16"),
            foreign().decode().encode("utf-16")[:-1],
            b"\n<?xml version='1.0'?>" + foreign(),
            foreign().replace(b"darktable:masks", b"darktable:\x0bmasks"),
            foreign().replace(b"a comment", b"a \xe9 comment"),
            b"<?xml version='1.0' encoding='iso-8859-1'?><a>\xe9</a>",
        ],
    )
    def test_a_sidecar_that_is_none_stays_as_it_is(self, photo: Path, content: bytes) -> None:
        sidecar = photo.with_name("IMG_1.jpg.xmp")
        sidecar.write_bytes(content)
        with pytest.raises(DataError, match=r"IMG_1\.jpg\.xmp: ") as raised:
            write_sidecar(photo, [ADA])
        assert "\n" not in str(raised.value)
        assert sidecar.read_bytes() == content

    def test_a_link_is_not_followed(self, photo: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_bytes(foreign())
        photo.with_name("IMG_1.jpg.xmp").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataError, match="a link"):
            write_sidecar(photo, [ADA])
        assert (tmp_path / "elsewhere").read_bytes() == foreign()

    def test_a_name_that_no_xml_holds(self, photo: Path) -> None:
        with pytest.raises(DataError):
            write_sidecar(photo, [Region("A\x01", ADA.box)])
        assert not photo.with_name("IMG_1.jpg.xmp").exists()


def test_a_failed_write_leaves_the_old_file_alone(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = photo.with_name("IMG_1.jpg.xmp")
    sidecar.write_bytes(foreign())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facetl.io.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_sidecar(photo, [ADA])
    assert sidecar.read_bytes() == foreign()
    assert sorted(os.listdir(photo.parent)) == ["IMG_1.jpg", "IMG_1.jpg.xmp"]


def test_a_namespace_with_a_space_is_none_of_ours(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    packet = FOREIGN.format(w=40, h=30).replace('"adobe:ns:meta/"', '"adobe ns"')
    (tmp_path / "a.jpg.xmp").write_text(packet, encoding="utf-8")
    write_sidecar(tmp_path / "a.jpg", [ADA])
    assert {region.name for region in read_regions(tmp_path / "a.jpg")} >= {ADA.name, "Rex"}
