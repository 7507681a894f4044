"""Decodes clips with several programs, visited in turn, and prints a CSV line per clip and peer.

    decode.py ENGINE ROUNDS FOLDER      makes the clips in FOLDER with the ffmpeg command line, one thread each

Every peer is a process of its own. `ours` and `ffmpeg` are measured whole, start included; the Python peers measure
their decoding alone, so that the start of an interpreter is not held against them. CPU seconds are user + system,
of all threads and children; the least of all rounds counts.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import time

SOURCE = "testsrc2=size=320x240:rate=30000/1001:duration=40.01"
FRAMES = 1199
CLIPS = {
    "mpeg2": ["mpg", "-c:v", "mpeg2video", "-q:v", "3"],
    "xvid": ["avi", "-c:v", "mpeg4", "-vtag", "XVID", "-q:v", "3"],
    "h264": ["mp4", "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p"],
}
WIDTH, HEIGHT = 160, 120


def pyav(path):
    import av

    frames = 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray()
            frames += 1
    return frames, av.__version__


def opencv(path):
    import cv2

    cv2.setNumThreads(1)
    frames = 0
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while True:
        good, picture = capture.read()
        if not good:
            return frames, cv2.__version__
        cv2.cvtColor(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), cv2.COLOR_BGR2RGB)
        frames += 1


def decord(path):
    import decord

    reader = decord.VideoReader(path, width=WIDTH, height=HEIGHT, num_threads=1)
    frames = 0
    for frame in reader:
        frame.asnumpy()
        frames += 1
    return frames, decord.__version__


PYTHON = {"pyav": pyav, "opencv": opencv, "decord": decord}


def cpu(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def child(peer, path):
    """Imports first, then measures this process alone."""
    __import__({"pyav": "av", "opencv": "cv2", "decord": "decord"}[peer])
    cpu_s, wall_s = cpu(resource.RUSAGE_SELF), time.monotonic()
    frames, version = PYTHON[peer](path)
    spent = cpu(resource.RUSAGE_SELF) - cpu_s, time.monotonic() - wall_s
    print(json.dumps({"frames": frames, "version": version, "cpu_s": spent[0], "wall_s": spent[1]}))


def whole(command):
    cpu_s, wall_s = cpu(resource.RUSAGE_CHILDREN), time.monotonic()
    out = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    return out.stdout, cpu(resource.RUSAGE_CHILDREN) - cpu_s, time.monotonic() - wall_s


def ffmpeg(path):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-filter_threads", "1", "-i", path]
    command += ["-vf", f"scale={WIDTH}:{HEIGHT}:flags=bicubic", "-pix_fmt", "rgb24", "-f", "rawvideo", "-y", "-"]
    cpu_s, wall_s = cpu(resource.RUSAGE_CHILDREN), time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        size = 0
        while part := process.stdout.read(1 << 20):
            size += len(part)
    if process.returncode:
        raise RuntimeError(f"ffmpeg ended with {process.returncode}")
    return size // (WIDTH * HEIGHT * 3), cpu(resource.RUSAGE_CHILDREN) - cpu_s, time.monotonic() - wall_s


def ours(engine, path):
    out, cpu_s, wall_s = whole([engine, "decode-clips", "--width", str(WIDTH), "--height", str(HEIGHT), path])
    return int(out), cpu_s, wall_s


def main(engine, rounds, folder):
    version = subprocess.run(["ffmpeg", "-version"], stdout=subprocess.PIPE, check=True).stdout.split()[2].decode()
    os.makedirs(folder, exist_ok=True)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["codec", "peer", "version", "frames", "cpu_s", "wall_s", "frames_per_s", "cpu_to_ours"])
    for codec, (ending, *flags) in CLIPS.items():
        path = os.path.join(folder, f"{codec}.{ending}")
        make = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", SOURCE, "-frames:v", str(FRAMES)]
        subprocess.run(make + flags + ["-threads", "1", path], check=True)
        best = {}
        for _ in range(rounds):
            for peer in ["ours", "ffmpeg", *PYTHON]:
                if peer == "ours":
                    frames, cpu_s, wall_s = ours(engine, path)
                    named = "libav as linked"
                elif peer == "ffmpeg":
                    frames, cpu_s, wall_s = ffmpeg(path)
                    named = version
                else:
                    said = subprocess.run([sys.executable, __file__, "--child", peer, path], stdout=subprocess.PIPE, check=True)
                    told = json.loads(said.stdout.splitlines()[-1])
                    frames, named, cpu_s, wall_s = told["frames"], told["version"], told["cpu_s"], told["wall_s"]
                if frames != FRAMES:
                    raise RuntimeError(f"{peer} decodes {frames} frames of {path}, which has {FRAMES}")
                _, _, old_cpu, old_wall = best.get(peer, (named, frames, cpu_s, wall_s))
                best[peer] = named, frames, min(cpu_s, old_cpu), min(wall_s, old_wall)
        for peer, (named, frames, cpu_s, wall_s) in best.items():
            ratio = cpu_s / best["ours"][2]
            out.writerow([codec, peer, named, frames, f"{cpu_s:.3f}", f"{wall_s:.3f}", f"{frames / wall_s:.0f}", f"{ratio:.3f}"])


if sys.argv[1] == "--child":
    child(*sys.argv[2:])
else:
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
