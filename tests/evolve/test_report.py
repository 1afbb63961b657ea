"""What a search tells people."""

from tfsnap.evolve.actions import Action
from tfsnap.evolve.ranking import Scored
from tfsnap.evolve.report import table
from tfsnap.evolve.state import Round

REMOVE = Scored(Action.parse("remove mid.resnets.1"), 0.01, 0.002, 0.5, 64, chosen=True)
ADD = Scored(Action.parse("add down.1.attentions.0.1"), 0.03, 0.004, 0.25, 64, chosen=True)


def test_a_round_lists_its_edits_and_says_whose_figures_an_added_block_has():
    plain = table(Round(0, 2.0, 0.7, 0.01, (REMOVE,)))
    assert "| remove mid.resnets.1 | +0.0100 | 0.0020 | 0.500 | +20.00 | 64 | yes |" in plain
    assert "copies" not in plain
    grown = table(Round(1, 1.5, 0.7, 0.01, (REMOVE, ADD)))
    assert "| add down.1.attentions.0.1 | +0.0300 |" in grown
    assert grown.endswith("\n\nAn added block has the figures of the block that it copies.\n")
