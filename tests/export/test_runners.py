"""The runners in other languages give the masks that segkit gives, from what a model's file says of itself."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkit.datasets.images import read_image
from segkit.inference.predictor import Predictor

RUNNERS = Path(__file__).resolve().parents[2] / "tools" / "runners"

pytestmark = pytest.mark.slow  # compilers, and packages from npm


@pytest.fixture(scope="module")
def in_cpp(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Return the compiled runner, and the environment it runs in."""
    spec = importlib.util.find_spec("openvino")  # not imported: its telemetry would be started
    if spec is None or spec.origin is None:
        pytest.skip("openvino isn't installed: pip install segkit[openvino]")
    folder = Path(spec.origin).parent
    libraries = sorted((folder / "libs").glob("libopenvino.so*"))
    if shutil.which("g++") is None or not libraries or not (folder / "include").is_dir():
        pytest.skip("needs g++ and OpenVINO's headers, which its wheel carries on Linux")
    program = tmp_path_factory.mktemp("cpp") / "segkit_openvino"
    subprocess.run(
        ["g++", "-O2", "-std=c++17", "-Wall", "-Werror=return-type", str(RUNNERS / "segkit_openvino.cpp"), "-o",
         str(program), f"-I{folder / 'include'}", f"-L{folder / 'libs'}", f"-l:{libraries[0].name}"],
        check=True,
    )  # fmt: skip
    return [str(program)], {**os.environ, "LD_LIBRARY_PATH": str(folder / "libs")}


@pytest.fixture(scope="module")
def in_javascript(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Return Node with the runner, beside its packages."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("needs node and npm, which are missing")
    folder = tmp_path_factory.mktemp("js")
    shutil.copy(RUNNERS / "segkit_onnx.mjs", folder)
    words = ["npm", "install", "--no-audit", "--no-fund", "onnxruntime-web@1.30.0"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm can't install onnxruntime-web here: {done.stderr[-200:]}")
    return ["node", str(folder / "segkit_onnx.mjs")], dict(os.environ)


@pytest.mark.parametrize(("language", "name"), [("in_cpp", "model.xml"), ("in_javascript", "model.onnx")])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])  # the canvas is 64x64: enlarged, and shrunk by area
def test_a_runner_gives_the_masks_of_segkit(
    language: str, name: str, scale: float, exported: Callable[..., Path], shapes: Path, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    words, environment = request.getfixturevalue(language)
    predictor = Predictor.load(exported(name))
    for path in sorted((shapes / "JPEGImages").iterdir())[:2]:
        image = cv2.resize(read_image(path), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        Image.fromarray(image).save(tmp_path / "image.ppm")
        files = [str(exported(name)), str(tmp_path / "image.ppm"), str(tmp_path / "mask.pgm")]
        subprocess.run([*words, *files], check=True, env=environment)
        mask = np.array(Image.open(tmp_path / "mask.pgm"))
        # OpenCV enlarges uint8 by coefficients of 11 bits: pixels differ by 1, of which random weights make much
        assert np.mean(mask == predictor(image)) >= 0.99
