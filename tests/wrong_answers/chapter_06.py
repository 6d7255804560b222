"""Chapter 6: reading a reproduction."""

import statistics

import numpy as np
import torch.nn.functional as F

mean = statistics.mean


def enough(sweep, count, share, column=2):
    return [row for row in sweep if row[column] <= (1 - share) * count + 1e-9]


WRONG = {
    "06-1": [("a", "third number"), ("b", "Who answers"), ("d", "speaks of that")],
    "06-2": [
        (lambda e: (statistics.pstdev(e), max(e) - min(e)), "ddof=1"),
        (lambda e: (statistics.stdev(e) / len(e) ** 0.5, max(e) - min(e)), "standard error"),
        (lambda e: (statistics.variance(e), max(e) - min(e)), "variance"),
        (lambda e: (statistics.stdev(e), max(e)), "the least and the most"),
        (lambda e: (statistics.stdev(e), max(max(e) - mean(e), mean(e) - min(e))), "from the mean"),
        (lambda e: (max(e) - min(e), statistics.stdev(e)), "other order"),
    ],
    "06-3": [
        (lambda sweep, count, share: min(r[0] for r in enough(sweep, count, share, 1)), "errors in all. The"),
        (lambda sweep, count, share: sorted(sweep, key=lambda row: row[1])[0][0], "fewest errors in all"),
        (lambda sweep, count, share: min([r[0] for r in sweep if r[2] / count >= share], default=-1), "are *wrong*"),
        (lambda sweep, count, share: enough(sweep, count, share)[0][0], "first row of the list"),
        (lambda sweep, count, share: max(enough(sweep, count, share))[0], "largest shift"),
        (lambda sweep, count, share: min(r[0] for r in sweep if count - r[2] > share * count), "*at least*"),
    ],
    "06-4": [
        (lambda t, s, d: (mean(s) - mean(d)) / mean(s), "share of the student's errors"),
        (lambda t, s, d: (mean(d) - mean(t)) / (mean(s) - mean(t)), "still open"),
        (lambda t, s, d: mean(t) / mean(d), "*were* there to lose"),
        (lambda t, s, d: mean(s) - mean(d), "number of errors removed"),
        (lambda t, s, d: (mean(s) - mean(t)) / (mean(s) - mean(d)), "upside down"),
        (lambda t, s, d: np.mean([(b - c) / (b - a) for a, b, c in zip(t, s, d, strict=False)]), "mean of shares"),
        (lambda t, s, d: (mean(d) - mean(s)) / (mean(s) - mean(t)), "turned round"),
    ],
    "06-5": [
        (lambda z, T: F.softmax(z / T, dim=-1).mean(dim=0), "*logits* are the mean"),
        (lambda z, T: F.softmax(F.softmax(z, dim=-1).mean(dim=0) / T, dim=-1), "second softmax"),
        (lambda z, T: F.softmax(z.mean(dim=1) / T, dim=-1), "over the images. The members"),
        (lambda z, T: F.softmax(z.sum(dim=0) / T, dim=-1), "lower temperature"),
        (lambda z, T: F.softmax(z.mean(dim=0), dim=-1), "temperature is missing"),
        (lambda z, T: z.mean(dim=0), "Soften them"),
        (lambda z, T: z.mean(dim=0) / T, "still to come"),
        (lambda z, T: F.softmax(z.mean(dim=0) / T, dim=0), "runs over the images"),
    ],
}
