"""The one error a user is meant to read."""


class InputError(ValueError):
    """Say what is wrong with something the user gave: a file, a key, a value.

    The message is one line that names the thing, what was expected and what came. The command line prints it without
    a traceback and exits with code 2; everything else that is raised is a defect and keeps its traceback.
    """
