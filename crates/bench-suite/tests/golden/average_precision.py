"""Writes average_precision.csv: scores, truths and scikit-learn's average_precision_score of them.

pip install scikit-learn
"""

import csv
import random
from pathlib import Path

from sklearn.metrics import average_precision_score

draw = random.Random(11111986)
cases = [
    ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]),
    ([0.5, 0.5, 0.5, 0.1, 0.9], [1, 0, 1, 0, 1]),
    ([0.5] * 4, [0, 0, 1, 1]),
    ([0.9, 0.9, 0.1], [1, 0, 1]),
    ([0.3], [1]),
]
for clips in [7, 20, 60, 200]:
    for levels in [3, 10, 1000]:  # few levels: many ties
        scores = [draw.randrange(levels) / levels for _ in range(clips)]
        truth = [int(draw.random() < 0.2 + 0.4 * score) for score in scores]
        truth[draw.randrange(clips)] = 1
        cases.append((scores, truth))

with open(Path(__file__).with_name("average_precision.csv"), "w", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["scores", "truths", "average_precision"])
    for scores, truth in cases:
        value = average_precision_score(truth, scores)
        rows.writerow([";".join(map(repr, scores)), ";".join(map(str, truth)), repr(float(value))])
