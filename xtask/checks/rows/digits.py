"""scikit-learn's digits as sequences of rows: DIR/<digit>/<number>.npy, u8 [8, 8], 0 to 16.

python3 digits.py DIR, with `pip install scikit-learn==1.9.1`, whose wheel holds the 1,797 pictures.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
for number, (picture, digit) in enumerate(zip(digits.images, digits.target)):
    folder = Path(sys.argv[1]) / str(digit)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{number:04}.npy", picture.astype("u1"))
print(f"{len(digits.target)} files")
