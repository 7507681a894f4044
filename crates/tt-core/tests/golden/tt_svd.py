"""Writes tt_svd.csv: a tensor 4 x 5 x 6 x 3 and its trains of ranks 2 and 3 by tensorly, multiplied out.

    python tt_svd.py > tt_svd.csv        (tensorly 0.10, NumPy back-end, f64)

Cores are unique up to gauge only; the tensors they stand for are unique where singular values differ.
"""

import numpy as np
import tensorly as tl
from tensorly.decomposition import tensor_train

i = np.indices((4, 5, 6, 3)).astype(np.float64)
tensor = np.sin(1.0 + i[0] * i[1] + 0.5 * i[2]) + 1.0 / (1.0 + i[0] + 2.0 * i[2] + i[3]) + np.cos(i[1] * i[3] - i[2])
columns = [tensor.ravel()]
for rank in (2, 3):
    columns.append(tl.tt_to_tensor(tensor_train(tensor, rank=[1, rank, rank, rank, 1])).ravel())
print("value,rank2,rank3")
for row in zip(*columns):
    print(",".join(repr(float(value)) for value in row))
