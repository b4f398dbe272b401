"""The one exception that a person is meant to read."""


class UserError(Exception):
    """Something that the user can mend: which file or row, what was expected, what to do.

    The command lines print `str(error)` as one line, without a traceback, and leave with `exit_code`:
    1 failed, 2 bad usage, 3 error budget exceeded.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
