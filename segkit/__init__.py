"""segkit: a folder of images and label masks in, a trained, measured semantic-segmentation model out.

How the package is laid out, lowest floor first (a floor imports only from floors below it):

    errors  wording  strict_yaml  classes  config      no numpy, no torch: a typo in a config is reported at once
    labels  pixel_loss             class ids of scores; loss and gradient in one
    geometry  runtime  ranks  durable            where pixels go; device, precision, seeds; peers; files that last
    sharding                       models spread over ranks
    data  models  losses  class_weights  metrics  optim                  the parts; they never import one another
    checkpoint  evaluate  report  intervals  formats  resume  divergence
    train  eval_miou  predict  check  mend  convert  download            the verbs
    plan  demo  folds              a few steps of one; all of them in a row; one of them for every fold
    command_line  cli              the `segkit` command; tools/*.py are the same commands as scripts

Shapes and names, the same in every file:

    B batch   C classes   H W network canvas   h w original image   *_hw a (height, width) pair
    image    uint8 RGB pixels [3, H, W] (arrays from files: [h, w, 3])     images   uint8 [B, 3, H, W]
    mask     uint8 class ids [H, W]; ignore_index marks pixels without a label
    logits   raw scores float [B, C, H, W]        target   a batch of masks, in losses and metrics only

This module imports nothing, so that `segkit --help` answers at once.
"""

__version__ = "0.1.0"
