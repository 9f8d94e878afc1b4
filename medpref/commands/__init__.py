"""One module a command: its parser, and the rooms that it puts together."""
