"""Decomposes one tensor with several libraries, visited in turn, and prints a CSV line per operation and peer.

    decomposition.py ENGINE ROUNDS THREADS FOLDER TF_PYTHON

The tensor is 57,600 x 256 with modes paired, (8*4) x (20*4) x (20*4) x (18*4): a train of rank 8 and noise a tenth its
size. Every round starts a process per peer; it warms up on a small tensor, does each operation once and times itself.
The least of all rounds counts. tensorly has neither rounding nor a TT-matrix times a vector; those cells stay empty.
"""

import csv
import json
import os
import subprocess
import sys
import time

INPUTS, OUTPUTS = (8, 20, 20, 18), (4, 4, 4, 4)
MODES = tuple(m * n for m, n in zip(INPUTS, OUTPUTS))
RANKS = (4, 8, 16)
BATCH = 16


def load(path):
    import numpy as np

    values = np.fromfile(path, dtype="<f4")
    count = int(np.prod(MODES))
    return values[:count].reshape(MODES), values[count:].reshape(BATCH, -1)


def make(path):
    import numpy as np

    draw = np.random.default_rng(0)
    ranks = (1, 8, 8, 8, 1)
    whole = np.ones((1, 1), dtype=np.float32)
    for k, mode in enumerate(MODES):
        core = draw.standard_normal((ranks[k], mode * ranks[k + 1]), dtype=np.float32)
        whole = (whole @ core).reshape(-1, ranks[k + 1])
    whole = whole.reshape(-1) / np.float32(np.sqrt(np.mean(np.square(whole, dtype=np.float64))))
    whole += np.float32(0.1) * draw.standard_normal(whole.size, dtype=np.float32)
    vectors = draw.standard_normal(BATCH * int(np.prod(INPUTS)), dtype=np.float32)
    np.concatenate([whole, vectors]).astype("<f4").tofile(path)


def error(tensor, near):
    import numpy as np

    return float(np.linalg.norm((near - tensor).astype(np.float64)) / np.linalg.norm(tensor.astype(np.float64)))


def timed(work):
    start = time.perf_counter()
    done = work()
    return done, time.perf_counter() - start


def tensorly(backend, path, threads):
    import numpy as np
    import tensorly as tl
    from tensorly.decomposition import tensor_train

    tl.set_backend(backend)
    if backend == "pytorch":
        import torch

        torch.set_num_threads(threads)
    tensor, _ = load(path)
    own = tl.tensor(tensor)
    tensor_train(tl.tensor(np.ones((4, 4, 4), dtype=np.float32)), rank=[1, 2, 2, 1])
    said = {}
    for rank in RANKS:
        train, seconds = timed(lambda: tensor_train(own, rank=[1, rank, rank, rank, 1]))
        said[f"tt_svd/{rank}"] = [seconds, error(tensor, tl.to_numpy(tl.tt_to_tensor(train)))]
    return said, tl.__version__


def t3f(path, threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import t3f as library

    tensor, vectors = load(path)
    own, batch = tf.constant(tensor), tf.constant(vectors)
    library.to_tt_tensor(tf.ones((4, 4, 4)), max_tt_rank=2)
    said = {}
    for rank in RANKS:
        train, seconds = timed(lambda: library.to_tt_tensor(own, max_tt_rank=rank))
        said[f"tt_svd/{rank}"] = [seconds, error(tensor, library.full(train).numpy())]
        twice = train + train
        rounded, seconds = timed(lambda: library.round(twice, max_tt_rank=rank))
        said[f"round/{rank}"] = [seconds, error(2 * library.full(train).numpy(), library.full(rounded).numpy())]
        # x W is (W^T x^T)^T: t3f multiplies a TT-matrix by a dense one from the left.
        cores = []
        for core, m, n in zip(train.tt_cores, INPUTS, OUTPUTS):
            left, _, right = core.shape
            cores.append(tf.reshape(core, (left, m, n, right)))
        matrix = library.TensorTrain(cores, shape=(INPUTS, OUTPUTS), tt_ranks=[1, rank, rank, rank, 1])
        library.matmul(batch, matrix)
        _, seconds = timed(lambda: library.matmul(batch, matrix).numpy())
        said[f"matvec/{rank}"] = [seconds, None]
    return said, getattr(library, "__version__", "1.2.0")


def child(peer, path, threads):
    if peer == "t3f":
        said, version = t3f(path, threads)
    else:
        said, version = tensorly(peer.removeprefix("tensorly-"), path, threads)
    print(json.dumps([said, version]))


def main(engine, rounds, threads, folder, tf_python):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "tensor.f32")
    make(path)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    env = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", **{name: threads for name in names})
    pythons = {"tensorly-numpy": sys.executable, "tensorly-pytorch": sys.executable, "t3f": tf_python}
    best, versions = {}, {}
    for at in range(rounds):
        ranks = ",".join(map(str, RANKS))
        ours = [engine, "--threads", threads, "bench-decomposition", "--input", path, "--ranks", ranks]
        commands = {"ours": ours}
        for peer, python in pythons.items():
            commands[peer] = [python, __file__, "--child", peer, path, threads]
        for peer, command in commands.items():
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=env)
            if ran.returncode:
                sys.exit(f"{peer} failed:\n{ran.stderr.decode(errors='replace')}")
            told = json.loads(ran.stdout.splitlines()[-1])
            said, versions[peer] = (told, "") if peer == "ours" else told
            for op, (seconds, wrong) in said.items():
                old = best.get((op, peer), (seconds, wrong))
                best[op, peer] = min(seconds, old[0]), wrong
        print(f"round {at + 1} of {rounds}", file=sys.stderr)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["operation", "rank", "peer", "version", "ms", "rel_error", "ratio"])
    for op, peer in sorted(best, key=lambda key: (key[0].split("/")[0], int(key[0].split("/")[1]), key[1] != "ours")):
        seconds, wrong = best[op, peer]
        name, rank = op.split("/")
        told = "" if wrong is None else f"{wrong:.6f}"
        out.writerow([name, rank, peer, versions[peer], f"{seconds * 1e3:.2f}", told, f"{seconds / best[op, 'ours'][0]:.2f}"])
    os.remove(path)


if sys.argv[1] == "--child":
    child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:6])
