"""The vocabulary of medpref as small frozen types, readers of data files and the bundled world."""
