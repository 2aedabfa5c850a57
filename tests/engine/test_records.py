"""Records: frozen dataclasses with shared methods."""

import dataclasses

import pytest

from plugin.engine.records import Record


class Point(Record):
    x: int
    y: int = 0


class Named(Point):
    name: str = "a"

    def __post_init__(self):
        if self.x < 0:
            raise ValueError("x")


class Other(Named):
    """No field of its own."""


class Empty(Record):
    """No field at all."""


def test_a_record_is_what_a_frozen_dataclass_is():
    point = Named(1, name="b")
    assert (point.x, point.y, point.name) == (1, 0, "b") and repr(point) == "Named(x=1, y=0, name='b')"
    assert [spec.name for spec in dataclasses.fields(Other)] == ["x", "y", "name"]
    assert dataclasses.asdict(point) == {"x": 1, "y": 0, "name": "b"}
    assert dataclasses.replace(point, y=5) == Named(1, 5, "b") and {point: 1}[Named(1, 0, "b")] == 1
    assert hash(Named(name="b", x=1)) == hash(point) and repr(Named(name="b", x=1)) == repr(point)
    assert Named(1) != Other(1) and dataclasses.fields(Empty) == () and Empty() == Empty()
    with pytest.raises(ValueError, match="x"):
        Other(-1)
    for change in (lambda: setattr(point, "x", 2), lambda: delattr(point, "x")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_a_record_takes_its_fields_and_each_once(given, named):
    with pytest.raises(TypeError):
        Point(*given, **named)
