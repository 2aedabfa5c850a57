"""Tiles cover the area once, and the windows read for them are aligned with the network's grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.engine.mapping.reading.tiling import block_size, plan_tiles, round_tile_size, with_halo
from plugin.engine.models.networks import STRIDE
from plugin.engine.windows import Window, tiles

areas = st.builds(Window, st.integers(0, 300), st.integers(0, 300), st.integers(1, 900), st.integers(1, 900))


@settings(max_examples=50, deadline=None)
@given(areas, st.integers(32, 600), st.integers(0, 100), st.integers(1, 5))
def test_batches_cover_every_pixel_once_and_hold_tiles_of_one_size(
    area: Window, tile_size: int, halo: int, batch_size: int
) -> None:
    seen = np.zeros((area.height, area.width), np.uint8)
    tile_size = round_tile_size(tile_size)
    for unit in plan_tiles(tiles(area, tile_size), lambda core: with_halo(core, halo), batch_size):
        assert 1 <= len(unit.tiles) <= batch_size
        assert len(unit) == sum(core.width * core.height for core, _ in unit.tiles)
        assert len({(str(core.slices_in(outer)), outer[2:]) for core, outer in unit.tiles}) == 1
        for core, outer in unit.tiles:
            seen[core.slices_in(area)] += 1
            assert outer.intersection(core.expanded(halo)) == core.expanded(halo)
            assert all(number % STRIDE == 0 for number in outer)
    assert (seen == 1).all()


def test_tiles_are_whole_blocks_so_that_none_is_compressed_twice() -> None:
    for asked, used in ((32, 32), (100, 128), (512, 512), (513, 768), (1024, 1024), (1100, 1280)):
        assert round_tile_size(asked) == used
        assert used % block_size(used) == 0 and block_size(used) % 16 == 0
