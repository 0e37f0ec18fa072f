"""A seeded, simulated bookshop for hobbies, whose customers' true preferences are known.

`settings` says what can be chosen, `world.simulate` makes a world, `files.write_world` writes
it to files, and `truth` holds the formulas and ranks by them. Nothing is imported here, so
that reading the settings stays light.
"""
