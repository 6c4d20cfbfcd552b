"""Write palette masks and overlays for a picture, a folder or a pattern. The same as `segkit predict`.

    python tools/predict.py runs/demo/checkpoints/best.pt photo.jpg --output predictions
    python tools/predict.py runs/demo/checkpoints/best.pt photos/ --output predictions
    python tools/predict.py runs/demo/checkpoints/best.pt 'photos/**/*.png' --output predictions --no-overlays
    python tools/predict.py runs/demo/fold*/checkpoints/last.pt photos/ --output predictions   # all of them together

Arguments are parsed in segkit/cli.py; the work is in segkit/predict.py.
"""

import sys

from segkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
