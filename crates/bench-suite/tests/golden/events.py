"""Writes events.bin, the event file that crates/bench-suite/src/events.rs must write, with TensorBoard's own messages
and record writer, wall times zero.

pip install tensorboard
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

with open(Path(__file__).with_name("events.bin"), "wb") as file:
    writer = RecordWriter(file)

    def write(**fields):
        event = Event(**fields)
        # Proto3 leaves out a time of 0; the writer under test always has it, first.
        writer.write(b"\x09" + bytes(8) + event.SerializeToString())

    write(file_version="brain.Event:2")
    for epoch in [1, 2, 300]:
        values = {"loss/train": 2.5 / epoch, "accuracy/train": 0.5}
        if epoch % 2 == 0:
            values["accuracy/test"] = 0.25
        write(step=epoch, summary={"value": [{"tag": t, "simple_value": v} for t, v in values.items()]})
