"""scikit-learn's half of bench-fit: fits Ridge(solver="cholesky") on raw f32 files, prints one line of JSON.

    ridge_sklearn.py FOLDER SOURCE_HIDDEN TARGET_HIDDEN TRAIN_ROWS ALPHA float32|float64

Reads FOLDER/source.f32 and target.f32 (row by row, the train rows first), writes FOLDER/sklearn.f32: the coefficients,
[target_hidden, source_hidden]. Loading and converting are outside the seconds and the bytes that are told.
"""

import json
import sys
import time

import numpy as np
import sklearn
from sklearn.linear_model import Ridge

folder, source, target, rows, alpha, dtype = sys.argv[1:]
source, target, rows = int(source), int(target), int(rows)


def read(name, width):
    values = np.fromfile(f"{folder}/{name}.f32", dtype=np.float32, count=rows * width)
    return values.reshape(rows, width).astype(dtype, copy=False)


def resident(field):
    """VmRSS (now) or VmHWM (the peak) in bytes; 0 if the system does not report it (Linux does). Not getrusage's peak, which
    starts at that of the process that started this one."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))
    except (OSError, StopIteration):
        return 0


x, y = read("source", source), read("target", target)
before = resident("VmRSS")
start = time.perf_counter()
model = Ridge(alpha=float(alpha), solver="cholesky").fit(x, y)
seconds = time.perf_counter() - start
after = resident("VmHWM")
model.coef_.astype(np.float32).tofile(f"{folder}/sklearn.f32")
print(json.dumps({
    "version": sklearn.__version__,
    "seconds": seconds,
    "grown": max(after - before, 0),
    "peak": after,
}))
