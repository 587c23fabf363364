"""Mathematics of monitoring and labeling: numpy only, pure functions of arrays, no files, no clock.

`binning` turns values into counts between edges, `distances` says how far two histograms are from
each other, `testing` says whether that could be chance. Each function names its paper.
"""
