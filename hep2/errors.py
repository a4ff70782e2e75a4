"""The one kind of error that is the user's to mend."""


class HEp2Error(Exception):
    """Something outside the program is wrong: an input, a setting, a file.

    The message names what is wrong (file, row, key) and the remedy. The entry points print it as
    `error: <message>` and exit with code 1; any other exception is a bug and keeps its traceback.
    """
