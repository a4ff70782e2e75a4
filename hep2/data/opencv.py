"""OpenCV, quiet and on one thread; import `cv2` from here.

Loader workers are forked. A pool of threads in the parent does not survive that: a worker that then
changes the number of threads can wait for ever, and each worker would start a pool of its own, on
cores that trainer and other jobs were promised (OpenCV does not read OMP_NUM_THREADS). Images of
cells are too small to gain by threads, and no pixel depends on their number.
"""

import cv2

cv2.setNumThreads(0)  # none but the caller's
cv2.utils.logging.setLogLevel(0)  # of what it cannot decode the user is told in a sentence

__all__ = ["cv2"]
