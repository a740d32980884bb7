from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ddnn_tf.registry import Registry, choose


def test_parts_are_found_by_name_in_the_order_of_registration() -> None:
    parts: Registry[int] = Registry("part")
    parts.register("one", 1, "here")
    parts.register("two", 2, "here")
    assert list(parts) == ["one", "two"]
    assert parts["two"] == 2
    assert "one" in parts
    assert "three" not in parts


def test_two_parts_of_one_name_are_refused_but_one_may_be_registered_twice() -> None:
    parts: Registry[object] = Registry("part")
    parts.register("one", 1, "here")
    parts.register("one", 1, "here")
    with pytest.raises(ValueError, match="a new name for the part of there, but 'one' is registered by here"):
        parts.register("one", 2, "there")
    assert parts["one"] == 1


def test_an_unknown_name_is_an_error_with_those_there_are() -> None:
    parts: Registry[int] = Registry("part")
    parts.register("one", 1, "here")
    with pytest.raises(ValueError, match="the part to be one of one, but got 'two'"):
        parts["two"]


def test_the_modules_of_a_package_register_its_parts_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "engines"
    package.mkdir()
    init = "from ddnn_tf.registry import Registry\nENGINES = Registry('engine', package=__name__)\n"
    (package / "__init__.py").write_text(init)
    for name in ("steam", "diesel"):
        (package / f"{name}.py").write_text(
            f"from engines import ENGINES\nENGINES.register('{name}', 1, __name__)\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    from engines import ENGINES

    assert "engines.diesel" not in sys.modules
    assert ENGINES.registered == ("diesel", "steam")
    assert ENGINES["steam"] == 1
    assert list(ENGINES) == ["diesel", "steam"]


def test_names_are_chosen_in_the_order_of_those_known() -> None:
    known = ["tflite", "tflite-int8", "lce"]
    assert choose("target", None, known) == known
    assert choose("target", ["lce", "tflite"], known) == ["tflite", "lce"]
    with pytest.raises(ValueError, match=r"a target out of tflite, tflite-int8, lce, but got 'onnx'"):
        choose("target", ["onnx"], known)
    with pytest.raises(ValueError, match=r"at least one section out of local, but got none"):
        choose("section", [], {"local": 1})
