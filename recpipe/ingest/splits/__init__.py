"""Splits of interactions into training, validation and test: one file a protocol.

`choose.choose_splitter` makes the `Splitter` the settings ask for; `whole_users.whole_users`
cuts the interactions into blocks of whole users; `Splitter.parts` says for a block which row
goes where; `tally.SplitTally` counts what a reader of the metrics has to know.
"""
