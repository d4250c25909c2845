"""Writes events.bin: an event file as the tensorboard package writes it, and checks that it is read back.

Made with tensorboard 2.x (version printed). Run: python make_events.py
A second file that starts at step 2 is read behind it, to show that a START replaces what came before.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1700000000.25


def text(name, content):
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    tensor = tensor_pb2.TensorProto(dtype=7, tensor_shape=shape, string_val=[content.encode()])
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
    metadata = summary_pb2.SummaryMetadata(plugin_data=plugin)
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=name, tensor=tensor, metadata=metadata)])


def scalars(values):
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in values])


def write(path, start, steps):
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        events = [
            event_pb2.Event(wall_time=TIME, file_version="brain.Event:2"),
            event_pb2.Event(wall_time=TIME, step=start, session_log=session),
        ]
        for step in steps:
            values = [("reward", 0.25 * step), ("completions/mean_length", 300.0 + start)]
            events.append(event_pb2.Event(wall_time=TIME, step=step, summary=scalars(values)))
        events.append(event_pb2.Event(wall_time=TIME, step=300, summary=text("samples", "Größe **4**")))
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()


here = Path(__file__).parent
write(here / "events.bin", 1, [1, 2, 3])
with tempfile.TemporaryDirectory() as folder:
    shutil.copy(here / "events.bin", Path(folder) / "events.out.tfevents.1700000000.g2rpo.1")
    write(Path(folder) / "events.out.tfevents.1700000001.g2rpo.2", 2, [2])
    read = EventAccumulator(folder).Reload()
    print("tensorboard", tensorboard.__version__)
    got = [(e.step, e.value) for e in read.Scalars("completions/mean_length")]
    print(got, read.Tags()["tensors"])
    assert got == [(1, 301.0), (2, 302.0)], got
    assert read.Tensors("samples")[0].tensor_proto.string_val[0].decode() == "Größe **4**"
