"""A miniature of the stand-in package: the same form, a few hand-made weights, written in JavaScript's clothes."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from facetl.backbones import nsfwjs_weights

FOLDER = "package/dist/models/inception_v3"
_TRAP = '"use strict";throw new Error("the package was executed");'


@dataclass
class Quantised:
    """A tensor as the package stores it: uint8 codes, of which each stands for code × scale + minimum."""

    name: str
    codes: np.ndarray
    minimum: float
    scale: float


@dataclass
class Miniature:
    """What goes into the package; `cuts` are the places at which the joined weights are split into shards."""

    tensors: list[Quantised]
    cuts: list[int] = field(default_factory=list)
    missing: tuple[str, ...] = ()

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(tensor.codes.astype(np.uint8).tobytes() for tensor in self.tensors)
        edges = [0, *self.cuts, len(data)]
        names = [f"group1-shard{number}of{len(edges) - 1}" for number in range(1, len(edges))]
        members = {f"{FOLDER}/model.min.js": self._model(names), "package/package.json": '{"name":"nsfwjs"}'}
        for name, start, stop in zip(names, edges[:-1], edges[1:], strict=True):
            members[f"{FOLDER}/{name}.min.js"] = _javascript(name, base64.b64encode(data[start:stop]).decode())
        with tarfile.open(path, "w:gz") as package:
            for name, text in members.items():
                if Path(name).name in self.missing:
                    continue
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                package.addfile(member, io.BytesIO(text.encode()))
        return path

    def _model(self, shards: list[str]) -> str:
        entries = ",".join(
            f'{{name:"{tensor.name}",shape:[{",".join(map(str, tensor.codes.shape))}],dtype:"float32",'
            f'quantization:{{min:{tensor.minimum},scale:{tensor.scale},dtype:"uint8"}}}}'
            for tensor in self.tensors
        )
        paths = ",".join(f'"{shard}"' for shard in shards)
        topology = '{class_name:"Model",config:{name:"inception_v3",layers:[{name:"input_1"}]}}'
        manifest = f"[{{paths:[{paths}],weights:[{entries}]}}]"
        return f"{_TRAP}module.exports={{modelTopology:{topology},weightsManifest:{manifest}}};"


def _javascript(name: str, text: str) -> str:
    return (
        f'{_TRAP}Object.defineProperty(exports,"__esModule",{{value:true}});'
        f'const shard="{text}";exports.default=shard;//# sourceMappingURL={name}.js.map'
    )


def pin(monkeypatch: pytest.MonkeyPatch, archive: Path) -> str:
    """Make `archive` the pinned package; returns its sha256."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(nsfwjs_weights, "SHA256", digest)
    return digest
