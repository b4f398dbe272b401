"""The one exception that a person is meant to read."""


class UserError(Exception):
    """Something that the user can mend: which file or row, what was expected, what to do.

    The command lines print `str(error)` as one line, without a traceback, and leave with `exit_code`:
    1 failed, 2 bad usage, 3 error budget exceeded.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def brief(error: BaseException, length: int = 120) -> str:
    """What an exception says, on one line of at most `length` characters; its kind where it says nothing.

    >>> brief(ValueError("a\\n  b"))
    'a b'
    """
    return " ".join(str(error).split())[:length] or type(error).__name__
