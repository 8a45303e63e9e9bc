"""Files with one kind of fault each: every fault is found where it was planted, and clean files are called clean."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from weitiao.data.check import CheckReport, run_checks
from weitiao.data.checks.base import CheckInput
from weitiao.data.fields import LABEL, TEXT, map_fields
from weitiao.data.read import read
from weitiao.findings import Finding

Pair = tuple[str, str]

_ENGLISH = {
    "delivery": "When will my parcel get here|My order has not come yet|Where can I follow the shipment|The "
    "courier left "
    "the box with a neighbour|Can you send it to another address|It was to arrive on Monday|The tracking page shows "
    "nothing|How long does shipping to Norway take|My package seems to be lost|Please deliver after six|Is "
    "there a pick up point nearby|The driver did not ring the bell",
    "refund": "I want my money back|The lamp was broken so please refund me|How do I return a pair of shoes|You "
    "charged me twice for one item|When does the refund reach my bank|I sent the jacket back a week ago|Can I "
    "get store credit "
    "instead|The amount you paid back is too small|Who pays for the return label|I cancelled but was still billed|The "
    "refund form does not load|May I return a gift without a receipt",
    "account": "I forgot my password|How can I change my e-mail|Please delete my profile|The login code never comes|My "
    "account is locked|Can two people share one login|I cannot upload a picture|Where do I see past invoices|The app "
    "signs me out every hour|How do I turn off the newsletter|My name is spelt wrong|I would like to merge two "
    "accounts",
}  # fmt: skip
_CHINESE = {
    "物流": "我的包裹什么时候能到|快递显示签收可是我没收到|能不能换一个收货地址|订单三天了还没有发货|"
    "物流信息一直不更新|可以送到楼下的柜子里吗|"
    "运费为什么这么贵|请在周末派送|外包装压坏了|寄到新疆要多久|送货员电话打不通|能指定下午送吗",
    "退款": "我要把钱退回来|杯子碎了请给我赔偿|鞋子尺码不对怎么退|你们多扣了一次钱|退回的钱几天到银行卡|"
    "衣服已经寄回一周了|退货的邮费谁出|"
    "金额跟我付的对不上|取消以后还是被收费|没有小票可以退吗|申请页面打不开|赠品也要一起寄回吗",
    "账号": "密码忘了怎么办|怎样修改手机绑定|请注销我的账户|验证码一直收不到|登录以后马上被踢出|头像传不上去|"
    "在哪里看以前的发票|怎么关闭推送消息|"
    "昵称写错了想改|两个账户能合并吗|家人可以共用一个登录吗|实名认证没有通过",
}  # fmt: skip


def base(language: str = "en") -> list[Pair]:
    """Return 36 sound rows, 12 of each of three classes, mixed."""
    source = _ENGLISH if language == "en" else _CHINESE
    columns = [[(text, label) for text in texts.split("|")] for label, texts in source.items()]
    return [row for rows in zip(*columns, strict=True) for row in rows]


# ---- writing


def _csv(rows: Sequence[Pair], delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([("text", "label"), *rows])
    return out.getvalue()


def _jsonl(rows: Sequence[Pair]) -> str:
    return "".join(json.dumps({"text": t, "label": label}, ensure_ascii=False) + "\n" for t, label in rows)


def write(path: Path, rows: Sequence[Pair], encoding: str = "utf-8") -> Path:
    """Write rows in the format of the file's name."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".xlsx"):
        import openpyxl

        book = openpyxl.Workbook()
        for row in [("text", "label"), *rows]:
            book.active.append(row)
        book.save(path)
        book.close()
        return path
    text = _jsonl(rows) if name.endswith(".jsonl") else _csv(rows, "\t" if name.endswith(".tsv") else ",")
    content = text.encode(encoding, "surrogatepass")
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def line(path: str, row: int) -> int:
    """Return the line, or the sheet's row, of the row of that index."""
    return row + (1 if path.removesuffix(".gz").endswith(".jsonl") else 2)


def check(files: Mapping[str, Path]) -> CheckReport:
    """Check files the way the command does."""
    tables = {split: map_fields(read(path), (TEXT, LABEL)) for split, path in files.items()}
    report = run_checks(CheckInput(tables, ("text",), "label"))
    for split, table in tables.items():
        assert report.counts[split]["rows_in"] == table.rows_in == len(table) + len(table.set_aside)
    return report


# ---- faults in one file: rows changed, and which rows the check must name


@dataclass(frozen=True)
class Fault:
    """One planted fault."""

    name: str
    file: str
    check: str
    plant: Callable[[list[Pair]], list[Pair]]
    rows: tuple[int, ...]  # indices among the rows written
    words: str
    language: str = "en"
    encoding: str = "utf-8"


def _replace(at: int, text: str | None = None, label: str | None = None) -> Callable[[list[Pair]], list[Pair]]:
    def plant(rows: list[Pair]) -> list[Pair]:
        rows[at] = (rows[at][0] if text is None else text, rows[at][1] if label is None else label)
        return rows

    return plant


def _insert(at: int, text: str, label: str) -> Callable[[list[Pair]], list[Pair]]:
    return lambda rows: [*rows[:at], (text, label), *rows[at:]]


def _repeat(
    row: int, at: int, change: Callable[[str], str] = str, label: str | None = None
) -> Callable[..., list[Pair]]:
    def plant(rows: list[Pair]) -> list[Pair]:
        return [*rows[:at], (change(rows[row][0]), rows[row][1] if label is None else label), *rows[at:]]

    return plant


_PARAGRAPH = (
    "I ordered a kettle and two cups on the third of May and paid at once, yet the box that came held only one "
    "cup and no "
    "kettle, and nobody answers the telephone"
)
_PARAGRAPH_ZH = (
    "我五月三号订了一个水壶和两个杯子，当天就付了钱，可是送来的箱子里只有一个杯子，"
    "没有水壶，打电话也没有人接，请尽快处理一下"
)
_CARD = "4539 1488 0343 6467"  # made up; its last digit passes the Luhn test
_IDENTITY = "11010519491231002X"  # the sample number of the standard

FAULTS = [
    Fault("empty text", "a.csv", "unusable", _replace(5, text=""), (5,), "text"),
    Fault("text of spaces", "a.tsv", "unusable", _replace(9, text="   "), (9,), "text"),
    Fault("no label", "a.jsonl", "unusable", _replace(7, label=""), (7,), "label"),
    Fault("no label in a sheet", "a.xlsx", "unusable", _replace(3, label=""), (3,), "label", "zh"),
    Fault("repeat", "a.csv", "duplicates", _repeat(2, 20), (20,), "word for word"),
    Fault("repeat zh", "a.csv.gz", "duplicates", _repeat(2, 30), (30,), "word for word", "zh"),
    Fault("repeat in capitals", "a.tsv", "duplicates", _repeat(4, 12, str.upper), (12,), "but for case"),
    Fault("repeat zh punctuated", "a.jsonl", "duplicates", _repeat(4, 12, lambda t: t + "！！"), (12,),
          "but for case", "zh"),
    Fault("near repeat", "a.csv", "duplicates", lambda r: [*r, (_PARAGRAPH, "refund"),
          (_PARAGRAPH + " at all", "refund")],
          (37,), "nearly"),
    Fault("near repeat zh", "a.xlsx", "duplicates",
          lambda r: [*r, (_PARAGRAPH_ZH, "物流"), (_PARAGRAPH_ZH.replace("尽快", "马上"),
          "物流")], (37,), "nearly", "zh"),
    Fault("two labels", "a.csv", "conflicts", _repeat(1, 25, label="account"), (1, 25), "more than one label"),
    Fault("two labels zh", "a.tsv.gz", "conflicts", _repeat(1, 25, label="账号"), (1, 25), "more than one label", "zh"),
    Fault("misspelt label", "a.csv", "label_typos", _replace(8, label="acount"), (8,), "'account'"),
    Fault("swapped letters", "a.jsonl", "label_typos", _replace(0, label="devilery"), (0,), "'delivery'"),
    Fault("label in capitals", "a.tsv", "label_typos", _replace(6, label="Delivery"), (6,), "another way"),
    Fault("full-width label", "a.xlsx", "label_typos", _replace(1, label="ｒｅｆｕｎｄ"), (1,), "another way"),
    Fault("misspelt label zh", "a.csv", "label_typos", _replace(2, label="帐号"), (2,), "'账号'", "zh"),
    Fault("rare label", "a.csv", "rare_labels", _insert(10, "Do you have jobs in Oslo", "vacancies"), (10,),
          "vacancies (1)"),
    Fault("rare label zh", "a.tsv", "rare_labels", _insert(10, "你们公司招人吗", "求职招聘"), (10,),
          "求职招聘 (1)", "zh"),
    Fault("one label only", "a.jsonl", "rare_labels", lambda r: [(t, "same") for t, _ in r], (0,), "nothing to learn"),
    Fault("an id as label", "a.csv", "rare_labels", lambda r: [(t, f"id-{i}") for i, (t, _) in enumerate(r)], (0,),
          "does not look like a class"),
    Fault("swallowed file", "a.csv", "lengths", _replace(11, text="and so on and on, " * 80), (11,),
          "as long as usual"),
    Fault("one character", "a.tsv", "lengths", _replace(14, text="k"), (14,), "at most 1 characters"),
    Fault("English row", "a.csv", "mixed_language", _replace(16, text="Where is my parcel"), (16,), "Latin", "zh"),
    Fault("Chinese row", "a.xlsx", "mixed_language", _replace(16, text="我的包裹在哪里"), (16,), "Han"),
    Fault("Russian row", "a.jsonl", "mixed_language", _replace(21, text="Где моя посылка"), (21,), "Cyrillic"),
    Fault("e-mail", "a.csv", "personal_data", _replace(13, text="Write to ann.lee@example.org"), (13,), "e-mail"),
    Fault("mobile zh", "a.csv", "personal_data", _replace(13, text="请打13912345678找我"), (13,), "mobile", "zh"),
    Fault("landline zh", "a.tsv", "personal_data", _replace(13, text="座机是010-62345678"), (13,), "telephone", "zh"),
    Fault("telephone", "a.jsonl", "personal_data", _replace(13, text="Ring +44 20 7946 0018"), (13,), "telephone"),
    Fault("identity zh", "a.xlsx", "personal_data", _replace(13, text=f"身份证号{_IDENTITY}"), (13,), "identity", "zh"),
    Fault("card", "a.csv.gz", "personal_data", _replace(13, text=f"My card {_CARD} fails"), (13,), "card"),
    Fault("UTF-8 as latin-1", "a.csv", "encoding", _replace(18, text="包裹在哪里".encode().decode("latin-1")), (18,),
          "wrong encoding"),
    Fault("UTF-8 as GBK", "a.csv", "encoding", _replace(18, text="你好世界".encode().decode("gbk")), (18,),
          "wrong", "zh"),
    Fault("replacement", "a.tsv", "encoding", _replace(18, text="我的\ufffd\ufffd到了"), (18,), "wrong encoding", "zh"),
    Fault("锟斤拷", "a.jsonl", "encoding", _replace(18, text="锟斤拷锟斤拷没到"), (18,), "wrong encoding", "zh"),
    Fault("control", "a.jsonl", "encoding", _replace(22, text="Where is\u0008 my parcel"), (22,), "U+0008"),
    Fault("full-width", "a.csv", "encoding", _replace(22, text="订单ＡＢ１２没到"), (22,), "full-width", "zh"),
    Fault("latin-1 file", "a.csv", "encoding", _replace(0, text="Où est mon café commandé à Noël"), (-1,), "not UTF-8",
          encoding="latin-1"),
    Fault("sorted by label", "a.csv", "split_drift", lambda r: sorted(r, key=lambda row: row[1]), (0, 12, 24),
          "sorted"),
    Fault("imbalance", "a.csv", "imbalance", lambda r: [row for row in r if row[1] == "refund"] + r[:1], (), "12 to 1"),
]  # fmt: skip


def found(report: CheckReport, check_name: str, words: str) -> Finding:
    """Return the check's finding with these words."""
    of_check = [f for f in report.findings if f.check == check_name]
    matching = [f for f in of_check if words in f.message]
    assert matching, [f.message for f in of_check] or [f.message for f in report.findings]
    return matching[0]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_fault_is_found_where_it_is(fault: Fault, tmp_path: Path) -> None:
    path = write(tmp_path / fault.file, fault.plant(base(fault.language)), fault.encoding)
    finding = found(check({"all": path}), fault.check, fault.words)
    assert finding.places == tuple(f"{fault.file}:{line(fault.file, row)}" for row in fault.rows)


# ---- faults in the bytes


@pytest.mark.parametrize(
    ("name", "damage", "check_name", "words", "at"),
    [
        ("a.csv", lambda lines: [*lines[:6], lines[6] + b",too,many,cells", *lines[7:]], "unusable", "", 7),
        ("a.tsv", lambda lines: [*lines[:6], b"one cell only", *lines[7:]], "unusable", "", 7),
        ("a.jsonl", lambda lines: [*lines[:6], lines[6][:-4], *lines[7:]], "unusable", "", 7),
        ("a.csv", lambda lines: [*lines[:4], lines[4][:3] + b"\0" + lines[4][3:], *lines[5:]], "encoding", "NUL", 5),
        ("a.csv", lambda lines: [*lines[:4], "\ufeff".encode() + lines[4], *lines[5:]], "encoding", "BOM", 5),
    ],
    ids=["too many cells", "too few cells", "torn JSON", "NUL byte", "stray BOM"],
)
def test_damaged_line_is_named(
    tmp_path: Path, name: str, damage: Callable[[list[bytes]], list[bytes]], check_name: str, words: str, at: int
) -> None:
    path = write(tmp_path / name, base("zh"))
    path.write_bytes(b"\n".join(damage(path.read_bytes().split(b"\n"))))
    assert f"{name}:{at}" in found(check({"all": path}), check_name, words).places


# ---- faults between splits


def _splits(folder: Path, train: Sequence[Pair], test: Sequence[Pair]) -> dict[str, Path]:
    return {"train": write(folder / "train.csv", train), "test": write(folder / "test.csv", test)}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_leak_is_found_on_both_sides(tmp_path: Path, language: str) -> None:
    rows = base(language)
    report = check(_splits(tmp_path, rows[:24], [*rows[24:30], rows[3], *rows[30:]]))
    finding = found(report, "leakage", "1 of 13 test rows also stand in train word for word")
    assert finding.severity == "error"
    assert finding.places == ("test.csv:8", "train.csv:5")


@pytest.mark.parametrize(("language", "text"), [("en", _PARAGRAPH), ("zh", _PARAGRAPH_ZH)])
def test_near_leak_is_found(tmp_path: Path, language: str, text: str) -> None:
    rows = base(language)
    label = rows[0][1]
    report = check(_splits(tmp_path, [*rows[:24], (text, label)], [*rows[24:], (text + "……!?" + text[:2], label)]))
    finding = found(report, "leakage", "nearly")
    assert finding.severity == "warning"
    assert finding.places == ("test.csv:14", "train.csv:26")


def test_label_that_train_lacks_is_an_error(tmp_path: Path) -> None:
    rows = base()
    report = check(_splits(tmp_path, rows[:24], [*rows[24:], ("Do you have jobs", "vacancies")]))
    finding = found(report, "rare_labels", "not occur in train")
    assert finding.severity == "error"
    assert finding.places == ("test.csv:14",)


def test_test_of_another_mixture_is_told(tmp_path: Path) -> None:
    train = [(f"{text} {i}", label) for i in range(3) for text, label in base()]
    test = [(f"Which way to shop {i}", "refund") for i in range(40)]
    assert (
        found(check(_splits(tmp_path, train, test)), "split_drift", "'refund' is 100.0% of test").severity == "warning"
    )


# ---- clean files


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.xlsx", "a.csv.gz"])
def test_clean_file_is_clean(tmp_path: Path, name: str, language: str) -> None:
    report = check({"all": write(tmp_path / name, base(language))})
    assert [f for f in report.findings if f.severity != "info"] == []
    assert report.sums("all") == "36 rows in = 36 used + 0 set aside"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030", "utf-16"])
def test_clean_file_in_another_encoding_has_no_error(tmp_path: Path, encoding: str) -> None:
    report = check({"all": write(tmp_path / "a.csv", base("zh"), encoding)})
    assert [f for f in report.findings if f.severity == "error"] == []


def test_clean_splits_are_clean(tmp_path: Path) -> None:
    rows = base()
    report = check(_splits(tmp_path, rows[:27], rows[27:]))
    assert [f for f in report.findings if f.severity != "info"] == []
