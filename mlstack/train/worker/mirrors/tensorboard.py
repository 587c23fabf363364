"""TensorBoard: event files in `.mlstack/tensorboard/RUN/`, written without torch or TensorFlow."""

import shutil

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util

from mlstack.train.worker.mirrors.entry import Entry, Point

FLUSH_S = 5
STATES = {
    "finished": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
    "stopped": api_pb2.STATUS_UNKNOWN,
}


class TensorBoard:
    """One folder a run; it is written anew by each copy, so that no point is in it twice."""

    where = ""

    def open(self, entry: Entry) -> None:
        """Begin the files anew: settings for the HParams tab, tags as text."""
        root = entry.folder.parents[2]
        folder = root / ".mlstack" / "tensorboard" / entry.spec.id
        shutil.rmtree(folder, ignore_errors=True)
        self.where = str(folder.relative_to(root))
        self._writer = EventFileWriter(str(folder), flush_secs=FLUSH_S)
        self._add(_hparams(entry.params), 0, None)
        lines = "\n".join(f"| {name} | {value} |" for name, value in entry.tags.items())
        self._add(_text("mlstack", f"| | |\n|---|---|\n{lines}"), 0, None)

    def write(self, points: list[Point]) -> None:
        """Add scalars."""
        for point in points:
            values = [
                summary_pb2.Summary.Value(tag=name, simple_value=value)
                for name, value in point.values.items()
            ]
            self._add(summary_pb2.Summary(value=values), point.step, point.at)
        self._writer.flush()

    def close(self, state: str) -> None:
        """Say how the run ended, and close the file."""
        if state in STATES:
            info = plugin_data_pb2.SessionEndInfo(status=STATES[state])
            data = plugin_data_pb2.HParamsPluginData(session_end_info=info)
            self._add(_hparams_summary(metadata.SESSION_END_INFO_TAG, data), 0, None)
        self._writer.close()

    def _add(self, summary: summary_pb2.Summary, step: int, at: float | None) -> None:
        event = event_pb2.Event(summary=summary, step=step)
        if at is not None:
            event.wall_time = at
        self._writer.add_event(event)


def _hparams(params: dict[str, str]) -> summary_pb2.Summary:
    info = plugin_data_pb2.SessionStartInfo()
    for name, value in params.items():
        try:
            info.hparams[name].number_value = float(value)
        except ValueError:
            info.hparams[name].string_value = value
    data = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return _hparams_summary(metadata.SESSION_START_INFO_TAG, data)


def _hparams_summary(tag: str, data: plugin_data_pb2.HParamsPluginData) -> summary_pb2.Summary:
    about = metadata.create_summary_metadata(data)
    value = summary_pb2.Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    return summary_pb2.Summary(value=[value])


def _text(tag: str, text: str) -> summary_pb2.Summary:
    about = text_metadata.create_summary_metadata(display_name=tag, description="")
    tensor = tensor_util.make_tensor_proto([text.encode()])
    value = summary_pb2.Summary.Value(tag=tag, metadata=about, tensor=tensor)
    return summary_pb2.Summary(value=[value])
