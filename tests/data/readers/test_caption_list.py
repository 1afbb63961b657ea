import pytest

from tfsnap.data.readers.caption_list import CaptionList
from tfsnap.data.readers.entry import Skipped


def listed(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CaptionList(path, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", 'image,caption\r\na.jpg,"one, ""quoted""\r\nover two lines"\r\nb.jpg,two\r\n'),
        ("x.csv", '\ufeffimage;caption\na.jpg;"one, ""quoted"" over two lines"\nb.jpg;two\n'),
        ("x.csv", 'Image_Name| Comment\na.jpg| one, "quoted" over two lines\nb.jpg|two\n'),
        (
            "x.tsv",
            'n\tcaption\tfile_name\n1\t"one, ""quoted"" over two lines"\ta.jpg\n\ttwo\tb.jpg',
        ),
        (
            "x.jsonl",
            '\ufeff{"file_name": "a.jpg", "text": "one, \\"quoted\\"\\nover two lines"}\n\n'
            '{"file_name": "b.jpg", "caption": ["two"], "more": {"x": []}}',
        ),
    ],
)
def test_every_kind_of_list(tmp_path, name, content):
    captions = listed(tmp_path, name, content)
    assert captions.names() == ["a.jpg", "b.jpg"]
    assert captions.captions("a.jpg") == ('one, "quoted" over two lines',)
    assert captions.captions("b.jpg") == ("two",)
    assert captions.captions("c.jpg") == ()
    assert captions.skipped == []


def test_bad_lines_are_named(tmp_path):
    content = "\n".join(
        [
            '{"file_name": "a.jpg", "text": "one"}',
            '{"file_name": "b.jpg", "text": ',
            "[1, 2]",
            '{"text": "of what?"}',
            '{"file_name": "c.jpg"}',
            '{"file_name": "d.jpg", "text": "four"}',
            "[" * 100_000,
        ]
    )
    captions = listed(tmp_path, "x.jsonl", content)
    assert captions.names() == ["a.jpg", "d.jpg"]
    assert captions.skipped == [
        Skipped("x.jsonl:2", "a line that is not a JSON object"),
        Skipped("x.jsonl:3", "a line that is not a JSON object"),
        Skipped("x.jsonl:4", "a line that names no picture"),
        Skipped("x.jsonl:5 (c.jpg)", "no caption"),
        Skipped("x.jsonl:7", "a line that is not a JSON object"),
    ]


def test_rows_of_another_length(tmp_path):
    captions = listed(tmp_path, "x.csv", "file,text\na.jpg,a dog, running\nb.jpg\n\nc.jpg,cat\n")
    assert captions.names() == ["c.jpg"]
    assert captions.skipped == [
        Skipped("x.csv:2", "a line with more fields than columns (put captions into quotes)"),
        Skipped("x.csv:3 (b.jpg)", "no caption"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a.jpg,a dog\n", "no column for the picture: its first line is 'a.jpg, a dog'"),
        (
            "x.csv",
            "file,title\na,b\n",
            "no column for the caption: .* name one of its columns 'cap",
        ),
        ("x.csv", "", "no column for the picture"),
        ("x.csv", 'file,text\na.jpg,"never\nclosed\n', r"x.csv:3: unexpected end of data; a quote"),
        ("x.csv", 'file,text\na.jpg,"a "b" c"\n', r"x.csv:2: .*written twice"),
        ("x.csv", "file,text\na.jpg,caf\xe9\n".encode("latin-1"), "x.csv is not UTF-8"),
        ("x.jsonl", '{"file": "a"}'.encode("utf-16"), "x.jsonl is not UTF-8"),
        ("x.parquet", "PAR1", r"captions are in .*x.parquet; it must be a .csv, .tsv, .jsonl file"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, name, content)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="none.csv"):
        CaptionList(tmp_path / "none.csv", folder=tmp_path)
