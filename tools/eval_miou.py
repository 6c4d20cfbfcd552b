"""Score a checkpoint on labelled images: native-resolution mIoU and the per-class table. The same as `segkit eval`.

    python tools/eval_miou.py runs/demo/checkpoints/best.pt
    python tools/eval_miou.py runs/camvid/checkpoints/best.pt --split test
    python tools/eval_miou.py best.pt data.root=elsewhere/dataset --output scores
    python tools/eval_miou.py runs/demo/fold*/checkpoints/last.pt --split test --output scores   # all of them together

Writes metrics.json and confusion.csv. Arguments are in segkit/commands/eval.py; the work is in segkit/eval_miou.py.
"""

import sys

from segkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
