"""Archives of torch.export that could run code are refused before PyTorch reads them."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from segkit.errors import CheckpointError
from segkit.inference.exported import read_exported
from segkit.inference.program_guard import refuse_code

Change = Callable[[Any], None]


@pytest.fixture
def rewritten(exported: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return the exported program with its graph changed, and with further entries."""

    def write(change: Change = lambda graph: None, **entries: bytes) -> Path:
        target = tmp_path / "changed.pt2"
        with zipfile.ZipFile(exported("model.pt2")) as given, zipfile.ZipFile(target, "w") as changed:
            for name in given.namelist():
                content = given.read(name)
                if name.endswith("models/model.json"):
                    graph = json.loads(content)
                    change(graph)
                    content = json.dumps(graph).encode()
                changed.writestr(name, content)
            for name, content in entries.items():
                changed.writestr(f"model/{name}", content)
        return target

    return write


def nodes(content: Any) -> list[Any]:
    return content["graph_module"]["graph"]["nodes"]  # type: ignore[no-any-return]


def call_a_shell(content: Any) -> None:
    nodes(content)[0]["target"] = "torch.os.system"


def hide_code_in_a_size(content: Any) -> None:
    inputs = content["graph_module"]["graph"]["tensor_values"]
    size = next(s for t in inputs.values() for s in t["sizes"] if "as_expr" in s)
    size["as_expr"]["expr_str"] = "__import__('os').system('true')"


def hide_code_in_a_check(content: Any) -> None:
    content["guards_code"] = ["__import__('os').system('true')"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("1",))


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_module=pickle)
    return buffer.getvalue()


def test_what_segkit_has_exported_passes(rewritten: Callable[..., Path]) -> None:
    refuse_code(rewritten())
    assert read_exported(rewritten()).output == "logits"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (call_a_shell, "the operation 'torch.os.system'"),
        (hide_code_in_a_size, "the expression"),
        (hide_code_in_a_check, "checks written in Python"),
    ],
)
def test_graphs_that_could_run_code_are_refused(change: Change, what: str, rewritten: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=f"changed.pt2: refused: it holds {what}"):
        read_exported(rewritten(change))


def test_pickled_objects_are_refused_and_tensors_are_not(rewritten: Callable[..., Path]) -> None:
    refuse_code(rewritten(**{"data/sample_inputs/other.pt": pickled([torch.zeros(2)])}))
    with pytest.raises(CheckpointError, match="refused: it holds pickled objects other than tensors"):
        refuse_code(rewritten(**{"data/sample_inputs/other.pt": pickled([Bomb()])}))


def test_weights_that_are_pickled_are_refused(rewritten: Callable[..., Path]) -> None:
    config = json.dumps({"config": {"x": {"path_name": "x", "use_pickle": True, "tensor_meta": {}}}}).encode()
    with pytest.raises(CheckpointError, match="refused: it holds pickled objects"):
        refuse_code(rewritten(**{"data/weights/other_config.json": config}))


def test_compiled_code_is_refused(rewritten: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="refused: it holds compiled code"):
        refuse_code(rewritten(**{"data/aotinductor/model/model.so": b"\x7fELF"}))
