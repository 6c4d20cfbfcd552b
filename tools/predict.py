"""Write palette masks and overlays for an image, a folder or a pattern. The same as `segkit predict`.

    python tools/predict.py runs/demo/checkpoints/best.pt image.jpg --output predictions
    python tools/predict.py runs/demo/checkpoints/best.pt images/ --output predictions
    python tools/predict.py runs/demo/checkpoints/best.pt 'images/**/*.png' --output predictions --no-overlays
    python tools/predict.py runs/demo/fold*/checkpoints/last.pt images/ --output predictions   # all of them together

Arguments are in segkit/commands/predict.py; the work is in segkit/predict.py.
"""

import sys

from segkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
