"""A folder that segments images in a browser, without a server: a page, the model in ONNX, its description.

The page is that of `segkit serve`; what predicts is onnxruntime-web, which npm installs into the folder.
"""

import importlib.resources
import json
from pathlib import Path

from torch.export import ExportedProgram

from segkit.export import onnx_file
from segkit.inference.exported import Exported

RUNTIME = "1.30.0"  # of onnxruntime-web; the one that the page was tested with
PAGE = ("index.html", "page.css", "page.js", "png.js")
NPM = {
    "private": True,
    "description": "npm install, then serve this folder: python -m http.server",
    "dependencies": {"onnxruntime-web": RUNTIME},
}


def write(program: ExportedProgram, about: Exported, path: Path) -> None:
    """Write a program as `path`, model.onnx, and beside it all that the page needs but onnxruntime-web."""
    onnx_file.write(program, about, path)
    folder = path.parent
    page = importlib.resources.files("segkit.serving").joinpath("page")
    for name in PAGE:
        (folder / name).write_bytes(page.joinpath(name).read_bytes())
    ours = importlib.resources.files("segkit.export").joinpath("web", "backend.js")
    (folder / "backend.js").write_bytes(ours.read_bytes())
    public = {key: value for key, value in json.loads(about.to_json()).items() if key not in ("config", "held_out")}
    (folder / "about.json").write_text(json.dumps(public), encoding="utf-8")  # the config names folders of ours
    (folder / "package.json").write_text(json.dumps(NPM, indent=2) + "\n", encoding="utf-8")
