"""Compares images that a finished run draws in bfloat16 with those in float32, from the same noise.

    python scripts/precision_table.py RUN --data digits > precision.jsonl

By network and seed: Frechet distance and accuracy of a classifier against the training records of
the data, CPU seconds of the drawing, and by how much pixels differ. A difference counts beside the
spread between seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import dpgen
from dpgen.data.sources import read_images
from dpgen.evaluation.extraction import extract, statistics
from dpgen.evaluation.feature_distances import frechet_distance
from dpgen.evaluation.feature_networks import feature_network
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.images.images import Images, to_float, to_uint8

PROTOCOL = UtilityProtocol(network="cnn", n_steps=300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("-n", type=int, default=5000, help="images of a set")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = dpgen.load(given.run)
    facts = generator.facts
    assert facts is not None
    real = read_images(given.data, split="train")
    network = feature_network("classifier", lambda: real, facts.n_classes)
    truth = statistics(extract(network, to_uint8(real.pixels)).features)
    for name in [name for name in ("model", "teacher") if name in generator.networks]:
        for seed in range(given.seeds):
            drawn = {}
            for precision in ("no", "bf16"):
                start = time.process_time()
                images = generator.sample(given.n, seed=seed, network=name, precision=precision)
                seconds = time.process_time() - start
                drawn[precision] = pixels = to_uint8(images.pixels)
                written = Images(to_float(pixels), images.labels)
                found = utility(written, real, facts.n_classes, seed=seed, protocol=PROTOCOL)
                distance = frechet_distance(
                    statistics(extract(network, pixels).features), truth
                )
                apart = (drawn["no"].int() - pixels.int()).abs()
                row = {
                    "network": name, "seed": seed, "precision": precision,
                    "cpu_seconds": round(seconds, 2), "frechet_distance": round(distance, 4),
                    "accuracy": round(found.accuracy, 4),
                    "pixels_apart": round(float(apart.float().mean()), 3),
                    "most_apart": int(apart.max()),
                }  # fmt: skip
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
