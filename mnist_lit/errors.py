"""The class of errors that the user can mend."""


class UserError(ValueError):
    """An error that the user can mend: its message says what, where and what to do.

    The command line prints the message as one sentence. Every other error keeps its traceback.
    """
