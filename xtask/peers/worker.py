"""One live peer: answers one JSON line per command until standard input closes (see README.md)."""

import importlib
import json
import os
import platform
import resource
import sys
import time
import traceback

PEERS = {
    "reference": ("reference", "Reference"),
    "torch_merged": ("torch_written", "Merged"),
    "torch_right_to_left": ("torch_written", "RightToLeft"),
    "torch_per_step": ("torch_written", "PerStep"),
    "torch_compile": ("torch_faster", "Compiled"),
    "torch_compile_bf16": ("torch_faster", "CompiledBf16"),
    "torch_medium": ("torch_faster", "Medium"),
    "opt_einsum": ("torch_faster", "OptEinsum"),
    "torch_dense_gru": ("torch_written", "Dense"),
    "torch_dense_lstm": ("torch_written", "Dense"),
    "tensorly_torch": ("torch_libraries", "TensorlyTorch"),
    "torchtt": ("torch_libraries", "Torchtt"),
    "tednet": ("torch_libraries", "Tednet"),
    "tednet_tr": ("torch_libraries", "TednetRing"),
    "tednet_bt": ("torch_libraries", "TednetBlocks"),
    "tednet_cp": ("torch_libraries", "TednetCanonical"),
    "tntorch": ("torch_libraries", "Tntorch"),
    "t3nsor": ("torch_libraries", "T3nsor"),
    "jax_merged": ("jax_merged", "Merged"),
    "t3f": ("tf_t3f", "T3f"),
}


def limit_threads(threads):
    """Must run before any framework is imported: they read these once."""
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "NPROC",  # the size of XLA's CPU pool
    ):
        os.environ[name] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        # XLA and TensorFlow keep helper threads of their own besides the pools named above.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[-threads:])


def rss_bytes(key, fallback):
    """`key` of /proc/self/status, because ru_maxrss also counts the parent before exec."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if platform.system() == "Darwin" else 1024
    return fallback * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Session:
    """The state between commands: the peer and its case."""

    def __init__(self):
        self.peer = None

    def init(self, request):
        limit_threads(request["threads"])
        from case import Case

        module, name = PEERS[request["peer"]]
        case = Case(request["case"])
        self.peer = getattr(importlib.import_module(module), name)(case, request["threads"])
        versions = {"python": platform.python_version(), **self.peer.versions()}
        return {"versions": versions, "rss_bytes": rss_bytes("VmRSS", 0)}

    def check(self, request):
        from case import write_tensors

        return {"tensors": write_tensors(request["out"], self.peer.outputs())}

    def run(self, request):
        phase = {"forward": self.peer.forward, "step": self.peer.step}[request["phase"]]
        wall, cpu = time.perf_counter(), time.process_time()
        phase()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"cpu_s": cpu, "wall_s": wall}

    def peak_rss(self, _request):
        return {"peak_rss_bytes": rss_bytes("VmHWM", 1)}


def main():
    # Libraries print to standard output: keep the protocol on a descriptor of its own.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        if request["cmd"] == "exit":
            break
        try:
            handler = {"init": session.init, "check": session.check, "run": session.run, "peak_rss": session.peak_rss}
            reply = {"ok": True, **handler[request["cmd"]](request)}
        except Exception as error:  # the driver decides what a failing peer means
            traceback.print_exc()
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
