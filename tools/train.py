"""Train a segmentation model by a config file. The same as `segkit train`; torchrun starts it on many GPUs.

    python tools/train.py configs/demo.yaml
    python tools/train.py configs/demo.yaml train.epochs=20 optim.lr=1e-3
    python tools/train.py configs/demo.yaml --resume
    python tools/train.py configs/demo.yaml --folds     # every fold that `segkit split DATA --folds 5` wrote
    torchrun --nproc-per-node 4 tools/train.py configs/voc_unet_resnet34.yaml

Arguments are in segkit/commands/train.py, which this script shares with the `segkit` command; the loop itself, the file
to read and to change, is segkit/train.py.
"""

import sys

from segkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
