"""A small part of the experiment: no damaged file passes for a good one."""

import damaged_files


def test_no_damaged_file_passes(tmp_path):
    tallies = damaged_files.survey(180, 0, tmp_path)
    assert sum(tally.refused + tally.right + tally.by_digest for tally in tallies.values()) == 180
    assert [line for tally in tallies.values() for line in tally.wrong] == []
    assert max(tally.seconds for tally in tallies.values()) < damaged_files.SECONDS
    assert max(tally.megabytes for tally in tallies.values()) < damaged_files.MEGABYTES
    assert sum(tally.refused for tally in tallies.values()) > 100
