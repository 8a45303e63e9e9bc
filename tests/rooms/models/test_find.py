"""A model's name to its files: paths, packages, hub, GGUF; hashes; and what is said when it cannot be had."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from weitiao.errors import MissingExtra, ModelError
from weitiao.models import find as find_module
from weitiao.models import fingerprint, packaged
from weitiao.models.find import DEFAULT_MODEL, find


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make("bert", tmp_path_factory.mktemp("find") / "模型 bert")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEITIAO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def gguf(**facts: Any) -> bytes:
    """The header of a GGUF: strings and 32-bit numbers, then a vocabulary."""
    body = b""
    for key, value in facts.items():
        name = key.replace("__", ".").encode()
        body += struct.pack("<Q", len(name)) + name
        if isinstance(value, str):
            body += struct.pack("<IQ", 8, len(value)) + value.encode()
        elif isinstance(value, list):
            body += struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
        else:
            body += struct.pack("<II", 4, value)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(facts)) + body + b"weights" * 50


LLAMA = gguf(
    general__architecture="llama", llama__sizes=[1, 2], llama__context_length=2048, tokenizer__ggml__tokens=[7] * 9
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a distribution, as pip would leave it, from a mapping of files."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def run(name: str, files: dict[str, bytes], requires: tuple[str, ...] = ()) -> None:
        stem = name.replace("-", "_")
        info = site / f"{stem}-1.0.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
        for path, content in files.items():
            (site / stem / path).parent.mkdir(parents=True, exist_ok=True)
            (site / stem / path).write_bytes(content)
        (info / "RECORD").write_text("".join(f"{stem}/{path},,\n" for path in files) + f"{info.name}/METADATA,,\n")

    return run


# paths ---------------------------------------------------------------------------------------------------------------


def test_a_folder(bert: Path) -> None:
    found = find(str(bert))
    assert found.folder == bert
    assert (found.gguf_file, found.max_length, found.pooling, found.is_decoder) == (None, 64, "cls", False)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_pooling_and_direction_follow_the_backbone(family: str, tmp_path: Path) -> None:
    found = find(str(tiny.make(family, tmp_path)))
    expected = "last" if family in tiny.DECODERS else {"modernbert": "mean"}.get(family, "cls")
    assert (found.pooling, found.is_decoder) == (expected, family in tiny.DECODERS)
    assert found.max_length == tiny.LENGTH


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ('{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}', "mean"),
        ('{"pooling_mode": "lasttoken"}', "last"),
        ('{"pooling_mode": ["cls"]}', "cls"),
        ('{"pooling_mode": ["mean", "max"]}', "cls"),  # none of ours: the architecture's own
    ],
)
def test_a_sentence_transformers_folder_says_its_pooling(
    settings: str, pooling: str, bert: Path, tmp_path: Path
) -> None:
    shutil.copytree(bert, tmp_path / "st" / "0_Transformer")
    (tmp_path / "st" / "modules.json").write_text('[{"path": "0_Transformer"}, {"path": "1_Pooling"}]')
    (tmp_path / "st" / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 48}')
    (tmp_path / "st" / "1_Pooling").mkdir()
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text(settings)
    found = find(str(tmp_path / "st"))
    assert found.folder.name == "0_Transformer"
    assert (found.pooling, found.max_length) == (pooling, 48)


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "model.gguf", "没有 这个", "a/b/c"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be had: there is no such file or folder, and it is not a hub id"):
        find(name)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickle_is_refused_with_the_way_to_convert_it(file: str, bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "m" / file).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError) as caught:
        find(str(tmp_path / "m"))
    assert f"has only pickle weights ({file}), which can run any code when opened" in str(caught.value)
    assert f"AutoModel.from_pretrained({str(tmp_path / 'm')!r}).save_pretrained(" in str(caught.value)


def test_folders_that_are_not_whole(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no weights: neither safetensors nor GGUF"):
        find(str(tmp_path))
    shutil.copy(bert / "model.safetensors", tmp_path)
    with pytest.raises(ModelError, match=r"there is no config\.json beside the weights"):
        find(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "from-the-future", "auto_map": {"AutoConfig": "x.Y"}}')
    with pytest.raises(ModelError, match="knows no architecture 'from-the-future'"):
        find(str(tmp_path))


def test_a_torn_weights_file_is_named(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"<html>404 not found</html>")
    with pytest.raises(ModelError, match=r"model\.safetensors: this safetensors file is cut off or damaged"):
        find(str(tmp_path / "m"))


# hashes --------------------------------------------------------------------------------------------------------------


def test_the_hash_is_of_the_content(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    first = find(str(bert)).content_hash
    (tmp_path / "copy" / "README.md").write_text("more words")
    assert find(str(tmp_path / "copy")).content_hash == first
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        changed = tmp_path / file.replace(".", "-")
        shutil.copytree(bert, changed)
        content = bytearray((changed / file).read_bytes())
        content[-1] ^= file == "model.safetensors"  # one bit of a weight
        content += b"" if file == "model.safetensors" else b"\n"
        (changed / file).write_bytes(content)
        assert find(str(changed)).content_hash != first


def test_a_large_file_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "big.bin"
    content = bytearray(os.urandom(1 << 20))
    file.write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    old = time.time() - 60
    os.utime(file, (old, old))
    assert fingerprint.file_hash(file) == expected
    reads: list[Any] = []
    true_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: reads.append(a) or true_digest(*a))
    assert fingerprint.file_hash(file) == expected
    assert not reads
    assert fingerprint.file_hash(file, remember=False) == expected
    content[5] ^= 1
    file.write_bytes(content)
    os.utime(file, (old, old))  # same size, same time: the inode's own change time tells
    assert fingerprint.file_hash(file) == hashlib.sha256(content).hexdigest()
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bert: Path
) -> None:
    (tmp_path / "file").write_text("")
    expected = find(str(bert)).content_hash
    monkeypatch.setenv("WEITIAO_CACHE", str(tmp_path / "file" / "below"))
    assert find(str(bert)).content_hash == expected


# packages ------------------------------------------------------------------------------------------------------------


def test_an_installed_model_folder(install: Callable[..., None], bert: Path) -> None:
    install("my-bert-zh", {f"model/{file.name}": file.read_bytes() for file in bert.iterdir()})
    assert "package:my-bert-zh" in find_module.available()
    found = find("package:My_Bert.zh")
    assert found.content_hash == find(str(bert)).content_hash


def test_the_default_model_is_named_with_its_extra_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise packaged.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged.metadata, "distribution", gone)
    with pytest.raises(MissingExtra, match=r'The default model needs .* pip install "weitiao\[models\]"'):
        find(DEFAULT_MODEL)


def test_an_installed_gguf(install: Callable[..., None]) -> None:
    install("one-gguf", {"data/x.gguf": LLAMA})
    found = find("package:one-gguf")
    assert (found.gguf_file, found.max_length, found.pooling, found.is_decoder) == ("x.gguf", 2048, "last", True)
    assert "package:one-gguf" in find_module.available()


def test_a_gguf_in_parts_is_put_together_once(install: Callable[..., None], cache: Path) -> None:
    cuts = [LLAMA[:40], LLAMA[40:41], LLAMA[41:]]
    for i, cut in enumerate(cuts):
        install(f"cut-part{3 - i}", {f"data/m.gguf.part{i:02d}": cut})  # the packages' own order means nothing
    sums = f"{hashlib.sha256(LLAMA).hexdigest()}  m.gguf\n".encode()
    install("cut-gguf", {"data/SHA256SUMS": sums}, ("cut-part1==1.0", "cut-part2 (==1.0)", "cut_part3", "absent>1"))
    found = find("package:cut-gguf")
    file = found.folder / "m.gguf"
    assert file.read_bytes() == LLAMA
    assert cache in file.parents
    assert [path.name for path in file.parent.iterdir()] == ["m.gguf"]
    written = file.stat().st_mtime_ns
    assert find("package:cut-gguf") == found
    assert file.stat().st_mtime_ns == written
    file.write_bytes(LLAMA[:-3])  # torn: made again
    assert find("package:cut-gguf") == found
    here = find_module.available()
    assert "package:cut-gguf" in here
    assert "package:cut-part1" not in here
    with pytest.raises(ModelError, match=r"cut-part1 is one part of a model\. Name the whole: package:cut-gguf\."):
        find("package:cut-part1")


def test_missing_and_damaged_parts_are_named(install: Callable[..., None], cache: Path) -> None:
    install("gap-gguf", {"m.gguf.part00": LLAMA[:9], "m.gguf.part02": LLAMA[9:]})
    with pytest.raises(ModelError, match=r"part 01 of m\.gguf is not installed"):
        find("package:gap-gguf")
    sums = b"0" * 64 + b" *m.gguf\n"
    install("bad-gguf", {"m.gguf.part00": LLAMA[:9], "m.gguf.part01": LLAMA[9:], "SHA256SUMS": sums})
    with pytest.raises(ModelError, match=r"the 2 parts of m\.gguf do not make the file their package describes"):
        find("package:bad-gguf")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_package_without_a_model_and_one_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="package pytest is installed but carries no model"):
        find("package:pytest")
    with pytest.raises(ModelError, match="no package called 'no-such-thing' is installed"):
        find("package:no-such-thing")


# GGUF ----------------------------------------------------------------------------------------------------------------


def test_gguf_files_by_path(tmp_path: Path) -> None:
    bert = gguf(general__architecture="bert", bert__context_length=512, bert__pooling_type=1)
    (tmp_path / "a.gguf").write_bytes(bert)
    found = find(str(tmp_path / "a.gguf"))
    assert (found.folder, found.gguf_file) == (tmp_path, "a.gguf")
    assert (found.max_length, found.pooling, found.is_decoder) == (512, "mean", False)
    assert find(str(tmp_path)).gguf_file == "a.gguf"
    (tmp_path / "b.gguf").write_bytes(LLAMA)
    with pytest.raises(ModelError, match=r"several GGUF files: a\.gguf, b\.gguf\. Name one of them"):
        find(str(tmp_path))
    (tmp_path / "c.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match=r"c\.gguf: this is not a GGUF file"):
        find(str(tmp_path / "c.gguf"))


# hub -----------------------------------------------------------------------------------------------------------------


def test_the_hub_is_asked_only_for_what_is_opened(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked.update(name=name, patterns=allow_patterns)
        return str(bert)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = find("bert-base-chinese")
    assert (found.name, asked["name"], found.folder) == ("bert-base-chinese", "bert-base-chinese", bert)
    from huggingface_hub.utils import filter_repo_objects

    files = ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "tf_model.h5", "vocab.txt"]
    files += ["onnx/model.onnx", "config.json", "modeling_x.py", "openvino/model.safetensors", "1_Pooling/config.json"]
    wanted = list(filter_repo_objects(files, allow_patterns=asked["patterns"]))
    assert wanted == [files[0], files[1], "vocab.txt", "config.json", "1_Pooling/config.json"]


def test_what_cannot_be_had_says_what_is_here_and_what_to_do(
    install: Callable[..., None], bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("my-bert-zh", {f"model/{file.name}": file.read_bytes() for file in bert.iterdir()})
    with pytest.raises(ModelError) as caught:  # the tests run with HF_HUB_OFFLINE
        find("hfl/chinese-roberta-wwm-ext")
    text = str(caught.value)
    assert "the model 'hfl/chinese-roberta-wwm-ext' cannot be had: HF_HUB_OFFLINE is set and it is not" in text
    for part in ("package:my-bert-zh", "config.json and safetensors", "modelscope:ORG/NAME", "set HF_ENDPOINT"):
        assert part in text


def test_a_hub_model_with_only_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda _: ["config.json", "pytorch_model.bin", "x/y.bin"])
    with pytest.raises(ModelError, match=r"'org/old' has only pickle weights \(pytorch_model\.bin\)"):
        find("org/old")


def test_modelscope_needs_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(MissingExtra, match=r"modelscope:org/name needs modelscope, .*weitiao\[modelscope\]"):
        find("modelscope:org/name")
