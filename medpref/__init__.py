"""medpref: the command line. The only place that puts the rooms together."""

__version__ = "0.1.0"
