"""What the first trial on a worker would wait for, imported by Ray's idle workers while images are looked at"""

from __future__ import annotations

import trainable.checkpoint_writer
import trainable.run_log
import trainable.step_plan
import trainable.train
import trainable.trial  # noqa: F401
