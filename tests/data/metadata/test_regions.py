"""Regions in XMP: read as other programs write them, upright, by either schema; hostile packets refused."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetl.data.metadata import regions as regions_module
from facetl.data.metadata import xmp
from facetl.data.metadata.header import PhotoHeader
from facetl.data.metadata.regions import Region, frame_of, read_regions, stored, upright
from facetl.errors import DataError, PhotoError

WIDTH, HEIGHT = 80, 60

# As exiftool, digiKam and Lightroom write them: elements, attributes, descriptions inside.
MWG_ELEMENTS = """
<rdf:Description rdf:about="" xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#">
 <mwg-rs:Regions rdf:parseType="Resource">
  <mwg-rs:AppliedToDimensions rdf:parseType="Resource">
   <stDim:h>{h}</stDim:h><stDim:unit>pixel</stDim:unit><stDim:w>{w}</stDim:w>
  </mwg-rs:AppliedToDimensions>
  <mwg-rs:RegionList><rdf:Bag>
   <rdf:li rdf:parseType="Resource">
    <mwg-rs:Area rdf:parseType="Resource">
     <stArea:h>0.5</stArea:h><stArea:unit>normalized</stArea:unit><stArea:w>0.25</stArea:w>
     <stArea:x>0.375</stArea:x><stArea:y>0.5</stArea:y>
    </mwg-rs:Area>
    <mwg-rs:Name>Ada  Lovelace</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type>
   </rdf:li>
  </rdf:Bag></mwg-rs:RegionList>
 </mwg-rs:Regions>
</rdf:Description>"""
MWG_ATTRIBUTES = """
<rdf:Description rdf:about="" xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:a="http://ns.adobe.com/xmp/sType/Area#">
 <r:Regions><rdf:Description>
  <r:AppliedToDimensions stDim:w="{w}" stDim:h="{h}" stDim:unit="pixel"/>
  <r:RegionList><rdf:Seq>
   <rdf:li><rdf:Description r:Name="Ada Lovelace" r:Type="Face">
    <r:Area a:x="0.375" a:y="0.5" a:w="0.25" a:h="0.5" a:unit="normalized"/>
   </rdf:Description></rdf:li>
   <rdf:li r:Type="Pet" r:Name="Rex"><r:Area a:x=".9" a:y=".9" a:w=".1" a:h=".1"/></rdf:li>
   <rdf:li r:Type="Face" r:Name="No area"/>
   <rdf:li r:Type="Face"><r:Area a:x="nan" a:y="0" a:w="1" a:h="1"/></rdf:li>
   <rdf:li r:Type="Face"><r:Area a:x="7" a:y="0.5" a:w="0.1" a:h="0.1"/></rdf:li>
   <rdf:li r:Type="Face"><r:Area a:x="40" a:y="30" a:w="9" a:h="9" a:unit="pixel"/></rdf:li>
  </rdf:Seq></r:RegionList>
 </rdf:Description></r:Regions>
</rdf:Description>"""
MICROSOFT = """
<rdf:Description rdf:about="" xmlns:MP="http://ns.microsoft.com/photo/1.2/"
 xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#" xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#">
 <MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag>
  <rdf:li MPReg:Rectangle="0.25, 0.25, 0.25, 0.5" MPReg:PersonDisplayName="{name}"/>
  <rdf:li rdf:parseType="Resource"><MPReg:PersonDisplayName>Only said to be there</MPReg:PersonDisplayName></rdf:li>
  <rdf:li rdf:parseType="Resource"><MPReg:Rectangle>0.5, 0, 0.5, 0.125</MPReg:Rectangle>
   <MPReg:PersonDisplayName>Grace</MPReg:PersonDisplayName></rdf:li>
 </rdf:Bag></MPRI:Regions></MP:RegionInfo>
</rdf:Description>"""
ADA = (0.25, 0.25, 0.5, 0.75)


def packet(*descriptions: str, w: int = WIDTH, h: int = HEIGHT, name: str = "Ada Lovelace") -> bytes:
    inside = "".join(text.replace("{w}", str(w)).replace("{h}", str(h)) for text in descriptions)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'{inside.replace("{name}", name)}</rdf:RDF></x:xmpmeta>   \n<?xpacket end="w"?>'
    ).encode()


def photo(kind: str = "JPEG", *, content: bytes | None = None, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, room = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), io.BytesIO()
    if kind == "TIFF":
        tags = {} if content is None else {700: content}
        image.save(room, kind, tiffinfo={**tags, 0x0112: orientation})
    elif kind == "PNG" and content is not None:
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", content.decode())
        image.save(room, kind, exif=exif, pnginfo=texts)
    elif kind == "HEIF":
        image.save(room, kind, exif=exif.tobytes(), **({} if content is None else {"xmp": content}))
    else:
        image.save(room, kind, exif=exif, **({} if content is None else {"xmp": content}))
    return room.getvalue()


class TestWhereItStands:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_inside_the_photo(self, kind: str) -> None:
        assert read_regions(photo(kind, content=packet(MWG_ELEMENTS))) == [Region("Ada Lovelace", ADA)]
        assert read_regions(photo(kind)) == []

    def test_inside_a_heic(self) -> None:
        pytest.importorskip("pillow_heif").register_heif_opener()
        assert read_regions(photo("HEIF", content=packet(MWG_ELEMENTS))) == [Region("Ada Lovelace", ADA)]

    def test_in_the_parts_that_a_long_packet_is_cut_into(self) -> None:
        rest, mark = packet(MWG_ELEMENTS), b"http://ns.adobe.com/xmp/extension/\0" + b"0123456789ABCDEF" * 2
        parts = [
            mark + len(rest).to_bytes(4, "big") + start.to_bytes(4, "big") + rest[start : start + 500]
            for start in range(0, len(rest), 500)
        ]
        segments = [b"\xff\xe1" + (2 + len(part)).to_bytes(2, "big") + part for part in parts]
        data = photo(content=packet(MICROSOFT))
        # In any order, behind the first segment.
        place = 4 + int.from_bytes(data[4:6], "big")
        extended = data[:place] + b"".join(reversed(segments)) + data[place:]
        assert [region.name for region in read_regions(extended)] == ["Ada Lovelace", "Grace"]
        extended = photo()[:place] + b"".join(reversed(segments)) + photo()[place:]
        assert read_regions(extended) == [Region("Ada Lovelace", ADA)]
        torn = photo()[:place] + b"".join(segments[1:]) + photo()[place:]
        assert read_regions(torn) == []

    @pytest.mark.parametrize("name", ["IMG_1.jpg.xmp", "IMG_1.xmp", "IMG_1.jpg.XMP"])
    def test_beside_it(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "IMG_1.jpg").write_bytes(photo())
        (tmp_path / name).write_bytes(packet(MWG_ELEMENTS))
        assert read_regions(tmp_path / "IMG_1.jpg") == [Region("Ada Lovelace", ADA)]

    def test_a_sidecar_that_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere.xmp").write_bytes(packet(MICROSOFT))
        found = read_regions(photo(), sidecar=tmp_path / "elsewhere.xmp")
        assert [region.name for region in found] == ["Ada Lovelace", "Grace"]

    def test_the_sidecar_comes_before_the_photo_and_each_face_is_there_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(photo(content=packet(MICROSOFT, name="Augusta")))
        (tmp_path / "a.jpg.xmp").write_bytes(packet(MWG_ELEMENTS))
        found = read_regions(tmp_path / "a.jpg")
        assert [region.name for region in found] == ["Ada Lovelace", "Grace"]

    def test_a_name_that_one_of_them_lacks_is_taken_from_the_other(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(photo(content=packet(MICROSOFT)))
        (tmp_path / "a.jpg.xmp").write_bytes(packet(MWG_ELEMENTS.replace("Ada  Lovelace", "")))
        assert read_regions(tmp_path / "a.jpg")[0] == Region("Ada Lovelace", ADA)

    def test_no_photo(self, tmp_path: Path) -> None:
        with pytest.raises(PhotoError):
            read_regions(tmp_path / "nowhere.jpg")
        with pytest.raises(PhotoError):
            read_regions(b"no photo")


class TestHowItIsWritten:
    def test_attributes_and_descriptions_inside(self) -> None:
        found = read_regions(photo(content=packet(MWG_ATTRIBUTES)))
        expected = [("Ada Lovelace", "face"), ("Rex", "pet"), ("", "face")]
        assert [(region.name, region.kind) for region in found] == expected
        assert found[0].box == ADA
        np.testing.assert_allclose(found[2].box, (35.5 / 80, 25.5 / 60, 44.5 / 80, 34.5 / 60))
        np.testing.assert_allclose(found[1].box, (0.85, 0.85, 0.95, 0.95))

    def test_microsoft_gives_the_corner_then_width_then_height(self) -> None:
        found = read_regions(photo(content=packet(MICROSOFT)))
        assert found == [Region("Ada Lovelace", ADA), Region("Grace", (0.5, 0.0, 1.0, 0.125))]

    def test_both_schemas_in_one_packet(self) -> None:
        found = read_regions(photo(content=packet(MICROSOFT, MWG_ELEMENTS, name="By Microsoft")))
        assert [region.name for region in found] == ["Ada Lovelace", "Grace"]

    def test_what_lies_outside_the_photo_is_cut_off(self) -> None:
        wide = MWG_ELEMENTS.replace("<stArea:x>0.375", "<stArea:x>0.0625")
        assert read_regions(photo(content=packet(wide)))[0].box == (0.0, 0.25, 0.1875, 0.75)

    def test_zeros_behind_the_packet(self) -> None:
        assert len(read_regions(photo("TIFF", content=packet(MWG_ELEMENTS) + b" \n\0\0"))) == 1

    @pytest.mark.parametrize("name", ["", "   ", "unknown", "x" * 300])
    def test_a_name_that_is_none_leaves_the_region_nameless(self, name: str) -> None:
        assert read_regions(photo(content=packet(MICROSOFT, name=name)))[0].name == ""

    def test_to_json_has_plain_types(self) -> None:
        told = Region("Ada", ADA).to_json()
        assert json.loads(json.dumps(told)) == {"name": "Ada", "box": [0.25, 0.25, 0.5, 0.75], "kind": "face"}

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
    @pytest.mark.parametrize("declared", [False, True])
    def test_every_encoding_of_unicode_with_and_without_its_mark(self, encoding: str, declared: bool) -> None:
        text = packet(MWG_ELEMENTS, name="Zoë").decode().replace("Ada  Lovelace", "Zoë").replace("\ufeff", "")
        if declared:
            text = f'<?xml version="1.0" encoding="{encoding[:6]}"?>\n' + text
        # Padding that is cut within a character, as programs that count bytes leave it.
        content = text.encode(encoding) + b"\0" * 5
        assert [region.name for region in regions_of(content)] == ["Zoë"]

    def test_a_declaration_that_is_wrong(self) -> None:
        text = b"<?xml version='1.0' encoding='UTF-16'?>" + packet(MICROSOFT, name="Zo\u00eb")
        assert regions_of(text)[0].name == "Zoë"
        assert regions_of(b"\xef\xbb\xbf" + text.replace(b"UTF-16", b"latin1"))[0].name == "Zoë"

    def test_bytes_that_are_no_utf_8_are_taken_for_windows_own(self) -> None:
        content = packet(MICROSOFT, name="Zo@ Š").replace(b"@", b"\xeb")
        assert regions_of(content)[0].name == "Zoë Š"

    @pytest.mark.parametrize("strange", ["\x0b", "\x00", "\ufffe", "&#0;", "&#x1F;", "&#xD800;", "&#9999999;"])
    def test_characters_that_xml_forbids(self, strange: str) -> None:
        assert regions_of(packet(MICROSOFT, name=f"Ada{strange}"))[0] == Region("Ada", ADA)

    def test_references_to_what_xml_knows_stay(self) -> None:
        assert regions_of(packet(MICROSOFT, name="Zo&#235; &#x160; &lt;"))[0].name == "Zoë Š <"

    def test_white_space_before_the_declaration(self) -> None:
        content = b"\n  <?xml version='1.0' encoding='utf-8'?>" + packet(MWG_ELEMENTS)
        assert regions_of(content) == [Region("Ada Lovelace", ADA)]

    def test_a_namespace_that_is_no_uri(self) -> None:
        content = packet(MWG_ELEMENTS, "<a:b xmlns:a='urn:no uri/ü %'>c</a:b>")
        assert regions_of(content) == [Region("Ada Lovelace", ADA)]

    def test_decimal_commas(self) -> None:
        assert regions_of(packet(MWG_ELEMENTS.replace("0.", "0,"))) == [Region("Ada Lovelace", ADA)]
        comma = MICROSOFT.replace("0.25, 0.25, 0.25, 0.5", "0,25, 0,25, 0,25, 0,5")
        assert regions_of(packet(comma))[0] == Region("Ada Lovelace", ADA)

    @pytest.mark.parametrize("unit", ["pixel", "Pixels", ""])
    def test_pixels_of_the_photo_that_it_was_drawn_on(self, unit: str) -> None:
        # Twice as large as the file; without dimensions it is the file itself.
        for scale in (2, 1):
            area = f'a:x="{30 * scale}" a:y="{30 * scale}" a:w="{20 * scale}" a:h="{30 * scale}" a:unit="{unit}"'
            text = MWG_ATTRIBUTES.replace('a:x="0.375" a:y="0.5" a:w="0.25" a:h="0.5" a:unit="normalized"', area)
            if scale == 1:
                text = text.replace('<r:AppliedToDimensions stDim:w="{w}" stDim:h="{h}" stDim:unit="pixel"/>', "")
            assert regions_of(packet(text, w=160, h=120))[0] == Region("Ada Lovelace", ADA)

    def test_an_unknown_unit_is_left_out(self) -> None:
        assert regions_of(packet(MWG_ELEMENTS.replace("normalized", "inch"))) == []

    def test_a_person_is_named_as_a_face_is(self) -> None:
        assert regions_of(packet(MWG_ELEMENTS.replace("Face", "Person"))) == [Region("Ada Lovelace", ADA)]

    def test_people_whose_regions_overlap_are_all_there(self) -> None:
        near = '<rdf:li MPReg:Rectangle="0.25, 0.25, 0.24, 0.5" MPReg:PersonDisplayName="Twin"/></rdf:Bag>'
        found = regions_of(packet(MICROSOFT.replace("</rdf:Bag>", near)))
        assert [region.name for region in found] == ["Ada Lovelace", "Grace", "Twin"]


def regions_of(content: bytes) -> list[Region]:
    """Read a packet as the sidecar of a photo."""
    with tempfile.TemporaryDirectory() as folder:
        sidecar = Path(folder, "a.xmp")
        sidecar.write_bytes(content)
        return read_regions(photo(), sidecar=sidecar)


class TestDamaged:
    @pytest.mark.parametrize("content", [b"", b"<x:xmpmeta", b"no XML", packet(MWG_ELEMENTS)[:300], None])
    def test_the_photo_and_the_other_sidecar_are_read_still(self, tmp_path: Path, content: bytes | None) -> None:
        (tmp_path / "a.jpg").write_bytes(photo(content=packet(MICROSOFT, name="Augusta")))
        (tmp_path / "a.xmp").write_bytes(packet(MWG_ELEMENTS))
        if content is None:
            (tmp_path / "a.jpg.xmp").mkdir()
        else:
            (tmp_path / "a.jpg.xmp").write_bytes(content)
        damaged: list[DataError] = []
        found = read_regions(tmp_path / "a.jpg", on_damaged=damaged.append)
        assert [region.name for region in found] == ["Ada Lovelace", "Grace"]
        assert [str(error).split(": ")[0] for error in damaged] == [str(tmp_path / "a.jpg.xmp")]

    def test_a_damaged_packet_in_the_photo(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(photo(content=packet(MICROSOFT)[:400]))
        (tmp_path / "a.jpg.xmp").write_bytes(packet(MWG_ELEMENTS))
        damaged: list[DataError] = []
        assert len(read_regions(tmp_path / "a.jpg", on_damaged=damaged.append)) == 1
        assert "the XMP in" in str(damaged[0])


class TestOrientation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_box_is_where_the_pixels_go(self, kind: str, orientation: int) -> None:
        from facetl.images.decode import read_photo

        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        # Where the region of the packet lies on the stored photo: left and top quarter to the middle.
        image[15:45, 20:40] = 255
        exif = Image.Exif()
        exif[0x0112] = orientation
        room = io.BytesIO()
        Image.fromarray(image).save(room, "PNG", exif=exif)
        seen = read_photo(room.getvalue())
        rows, columns = np.nonzero(seen[..., 0])
        region = read_regions(photo(kind, content=packet(MWG_ELEMENTS), orientation=orientation))[0]
        left, top, right, bottom = region.pixels(seen.shape[1], seen.shape[0])
        expected = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
        np.testing.assert_allclose((left, top, right, bottom), expected)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_there_and_back(self, orientation: int) -> None:
        box = (0.1, 0.25, 0.4, 0.9)
        np.testing.assert_allclose(stored(upright(box, orientation), orientation), box)

    def test_regions_that_were_drawn_on_the_upright_photo_say_so(self) -> None:
        turned = packet(MWG_ELEMENTS, w=HEIGHT, h=WIDTH)
        assert read_regions(photo(content=turned, orientation=6))[0].box == ADA
        assert read_regions(photo(content=packet(MWG_ELEMENTS), orientation=6))[0].box == (0.25, 0.25, 0.75, 0.5)

    def test_the_dimensions_of_another_size_of_the_photo(self) -> None:
        assert read_regions(photo(content=packet(MWG_ELEMENTS, w=4032, h=3024)))[0].box == ADA

    def test_regions_of_a_photo_that_was_cropped_since_fit_nothing(self) -> None:
        assert read_regions(photo(content=packet(MWG_ELEMENTS, w=80, h=50))) == []
        assert read_regions(photo(content=packet(MWG_ELEMENTS, w=60, h=80))) == []

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("form", ["stored", "upright"])
    def test_a_face_in_both_schemas_is_drawn_once(self, orientation: int, form: str) -> None:
        # digiKam writes both from one box; Microsoft's has no dimensions to tell on which form of the photo.
        sides = (HEIGHT, WIDTH) if form == "upright" and orientation > 4 else (WIDTH, HEIGHT)
        content = packet(MWG_ELEMENTS, MICROSOFT, w=sides[0], h=sides[1])
        ada, grace = read_regions(photo(content=content, orientation=orientation))
        assert (ada.name, grace.name) == ("Ada Lovelace", "Grace")
        as_drawn = sides == (HEIGHT, WIDTH)
        assert ada.box == (ADA if as_drawn else upright(ADA, orientation))
        drawn = (0.5, 0.0, 1.0, 0.125)
        assert grace.box == (drawn if as_drawn else upright(drawn, orientation))

    @pytest.mark.parametrize("sides", [(0, 0), (float("nan"), 3), (-4, 3), (float("inf"), 3)])
    def test_without_dimensions_it_is_the_stored_photo(self, sides: tuple[float, float]) -> None:
        assert frame_of(*sides, PhotoHeader(4, 3, 6, None, {})) == "stored"


class TestPixels:
    def test_there_and_back(self) -> None:
        box = (9.5, 19.5, 29.5, 59.0)
        region = Region.of_pixels("Ada", box, width=80, height=60)
        assert region.box == (10 / 80, 20 / 60, 30 / 80, 59.5 / 60)
        np.testing.assert_allclose(region.pixels(80, 60), box)

    def test_edges_stay_in_the_photo(self) -> None:
        assert Region("", (0.0, 0.0, 1.0, 1.0)).pixels(80, 60) == (0.0, 0.0, 79.0, 59.0)
        assert Region.of_pixels("", (-5.0, 0.0, 90.0, 59.0), width=80, height=60).box[::2] == (0.0, 1.0)


class TestHostile:
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(
                b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">'
                b'<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]><a>&d;&d;&d;&d;</a>',
                id="entities within entities",
            ),
            pytest.param(b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', id="another file"),
            pytest.param(b'<!DOCTYPE a SYSTEM "http://example.com/a.dtd"><a/>', id="another document"),
            pytest.param(b"<a>" * 1000 + b"</a>" * 1000, id="nested"),
            pytest.param(b"<a>" * 100_000, id="nested and torn"),
            pytest.param(b"<a", id="torn"),
            pytest.param(b"\xff\xfe\0<", id="no text"),
            pytest.param(b'<?xml version="1.0" encoding="klingon"?><a/>', id="unknown encoding"),
            pytest.param(b"", id="empty"),
            pytest.param(b"\0" * 100, id="zeros"),
        ],
    )
    def test_refused_in_one_line(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(photo())
        (tmp_path / "a.jpg.xmp").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.jpg\.xmp: ") as raised:
            read_regions(tmp_path / "a.jpg")
        assert "\n" not in str(raised.value)

    def test_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(xmp, "MAX_BYTES", 1 << 20)
        (tmp_path / "a.jpg").write_bytes(photo())
        with (tmp_path / "a.jpg.xmp").open("wb") as file:
            file.truncate(1 << 30)  # sparse: takes no room
        with pytest.raises(DataError, match="at most 1 MiB"):
            read_regions(tmp_path / "a.jpg")

    def test_a_pipe_or_a_folder_as_a_sidecar(self, tmp_path: Path) -> None:
        import os

        (tmp_path / "a.jpg").write_bytes(photo())
        os.mkfifo(tmp_path / "a.jpg.xmp")
        with pytest.raises(DataError):
            read_regions(tmp_path / "a.jpg")
        (tmp_path / "b.jpg").write_bytes(photo())
        (tmp_path / "b.jpg.xmp").mkdir()
        with pytest.raises(DataError, match="cannot be read"):
            read_regions(tmp_path / "b.jpg")

    def test_too_many_regions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(regions_module, "_MOST", 1)
        assert len(read_regions(photo(content=packet(MWG_ELEMENTS)))) == 1
        with pytest.raises(DataError, match="at most 1 regions"):
            read_regions(photo(content=packet(MICROSOFT)))
