"""The one exception of the mixer that a person is meant to read."""


class MixerError(ValueError):
    """Something that the user can mend: which file or value, what was expected, what to do. One line.

    The command line prints it and leaves with `exit_code`: 1 failed, 2 bad usage.
    """

    exit_code = 1

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
