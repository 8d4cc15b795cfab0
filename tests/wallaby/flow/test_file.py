"""Files of several flows and directories of files: everything is found once, in order, and nothing is half read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wallaby.errors import ConfigError
from wallaby.flow import FlowSpec
from wallaby.flow.file import FLOWS_MAX, flow_files, read_flow_documents, read_flow_file

SECRET = "hunter2"


def flow(name: str = "shop", **options: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"type": "postgres", "options": {"dsn": "env:SHOP_DSN", **options}},
        "destinations": [{"type": "blackhole"}],
    }


def written(tmp_path: Path, text: str, name: str = "a.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_several_documents_are_several_flows(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump_all([flow("a"), None, flow("b")]) + "---\n")
    documents = read_flow_documents(path)
    assert [document.mapping["name"] for document in documents] == ["a", "b"]
    assert [document.place for document in documents] == [f"{path}, flow 1", f"{path}, flow 2"]


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_a_list_of_flows_is_several_flows(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, json.dumps({"$schema": "x", "flows": [flow("a"), flow("b")]}), name)
    assert [document.mapping for document in read_flow_documents(path)] == [flow("a"), flow("b")]


def test_documents_and_lists_may_be_mixed(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump_all([flow("a"), {"flows": [flow("b"), flow("c")]}, flow("d")]))
    assert [document.mapping["name"] for document in read_flow_documents(path)] == list("abcd")


def test_one_flow_keeps_its_file_as_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps({"$schema": "flow.schema.json", **flow()}), "a.json")
    [document] = read_flow_documents(path)
    assert (document.place, document.mapping) == (str(path), flow())


def test_where_one_flow_is_needed_several_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump_all([flow("a"), flow("b")]))
    with pytest.raises(ConfigError, match="holds 2 flows"):
        read_flow_file(path)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"flows": [flow()], "name": "x"}, "nothing else but variables"),
        ({"flows": {"a": flow()}}, "must be a list of flows"),
        ({"flows": ["hunter2"]}, "must be a list of flows"),
        ({"flows": []}, "holds no flow"),
        ({"flows": [flow()] * (FLOWS_MAX + 1)}, f"more than {FLOWS_MAX} flows"),
        (flow() | {"variables": "A"}, "list of names"),
        (flow() | {"variables": ["A-B"]}, "list of names"),
        (flow() | {"variables": ["WALLABY_NOT_SET"]}, "WALLABY_NOT_SET is not set"),
    ],
)
def test_what_is_neither_a_flow_nor_flows_is_refused(tmp_path: Path, content: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as refused:
        read_flow_documents(written(tmp_path, json.dumps(content), "a.json"))
    assert SECRET not in str(refused.value)


def test_declared_variables_are_put_in_and_references_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "eu")
    monkeypatch.setenv("ROOM", "${env:REGION}")
    content = flow("shop ${env:REGION}", publication_tables=["a.${env:REGION}", "b.${env:ROOM}"])
    path = written(tmp_path, yaml.safe_dump({"variables": ["REGION", "ROOM"], **content}))
    mapping = read_flow_file(path)
    assert mapping["name"] == "shop eu"
    assert mapping["source"]["options"] == {"dsn": "env:SHOP_DSN", "publication_tables": ["a.eu", "b.${env:REGION}"]}
    assert "variables" not in mapping


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("text", ["${env:HOME}", "x${env:}", "${env:REGION", "${env:REGION}${env:OTHER}"])
def test_a_variable_that_is_not_declared_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("REGION", SECRET)
    path = written(tmp_path, yaml.safe_dump({"variables": ["REGION"], **flow(publication_tables=["a", text])}))
    with pytest.raises(ConfigError) as refused:
        read_flow_file(path)
    assert refused.value.where["field"] == "source.options.publication_tables[1]"
    assert SECRET not in str(refused.value)


def test_aliases_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="more than"):
        read_flow_file(written(tmp_path, "\n".join(lines)))
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_flow_file(written(tmp_path, "a: &a [*a]"))


def test_a_directory_stands_for_its_flow_files_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c/d.JSON", ".hidden.yaml", ".git/x.yaml", "readme.md", "e.yaml/f.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = [str(path.relative_to(tmp_path)) for path in flow_files(tmp_path)]
    assert found == ["a.yml", "b.yaml", "c/d.JSON", "e.yaml/f.yaml"]
    assert flow_files(tmp_path / "b.yaml") == [tmp_path / "b.yaml"]


def test_a_directory_without_flow_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no flow file"):
        flow_files(tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=20,
)


@given(value=values)
def test_any_content_is_read_as_it_is_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = written(tmp_path_factory.mktemp("any"), json.dumps(value), "a.json")
    try:
        documents = read_flow_documents(path)
    except ConfigError:
        return
    assert isinstance(value, dict)
    if "flows" not in value and "variables" not in value:
        assert [document.mapping for document in documents] == [{k: v for k, v in value.items() if k != "$schema"}]


@given(text=st.text(alphabet="{}[]:-,&*!|>#% \n\"'abc0~?", max_size=60))
def test_any_yaml_is_read_or_refused_in_our_words(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    try:
        for document in read_flow_documents(written(tmp_path_factory.mktemp("any"), text)):
            FlowSpec.from_mapping(document.mapping)
    except ConfigError:
        return
