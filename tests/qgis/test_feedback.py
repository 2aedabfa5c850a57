"""The reports of a job in QGIS's log."""

import pytest
from conftest import Listener


@pytest.mark.parametrize("texts", [["Epoch {} of 90"], ["Epoch {} of 90", "Looking at validation chips"]])
def test_the_time_left_is_told_now_and_then_alone(provider, monkeypatch, texts):
    from terrazzo.processing_provider import feedback

    clock, listener = [0.0], Listener()
    monkeypatch.setattr(feedback.time, "monotonic", lambda: clock[0])
    reporter = feedback.FeedbackReporter(listener)
    for step in range(900):  # a quarter of an hour
        clock[0] += 1
        reporter.progress(step / 900, texts[step % len(texts)].format(1 + step // 10), 900.0 - step)
    assert listener.texts[: len(texts)] == [text.format(1) for text in texts]
    timed = [text for text in listener.texts if text.endswith(" left")]
    assert 5 <= len(timed) <= 15 and len(listener.texts) == len(timed) + len(texts)
    assert timed[0].endswith("about 14 min left") and len({text.partition(", ")[2] for text in timed}) > len(timed) - 3


def test_a_long_epoch_shows_its_loss(provider, monkeypatch):
    from terrazzo.processing_provider import feedback

    clock, listener = [0.0], Listener()
    monkeypatch.setattr(feedback.time, "monotonic", lambda: clock[0])
    reporter = feedback.FeedbackReporter(listener)
    for step in range(3):
        reporter.progress(step / 10, "Epoch 1 of 2", 900.0)
        reporter.step({"step": step, "loss": 0.5 + step, "learning_rate": 0.1})
        clock[0] += 600
    assert [text.partition(", about")[0] for text in listener.texts] == (
        ["Epoch 1 of 2", "Epoch 1 of 2, loss 0.500", "Epoch 1 of 2, loss 1.500"]
    )


def test_an_epoch_of_numbers_is_a_line_as_well(provider):
    from terrazzo.processing_provider.feedback import NO_BREAK, epoch_line

    figures = {"loss": 0.5, "rmse": 1234.5, "r2": None, "mae": 1.0, "bias": 0.0}
    record = {"epoch": 3, "epochs": 12, "training": figures, "validation": {**figures, "loss": None}, "best": True}
    assert epoch_line(record).replace(NO_BREAK, " ").split() == (
        ["epoch", "3/12", "loss", "0.500", "validation", "–", "RMSE", "1234", "R²", "–", "best"]
    )
