"""The one exception that reaches people: a sentence that says what was being done, why it failed,
and where possible what to do.  cli.py prints it and exits with its status."""


BROKEN = 70                             # the status of "QEMU itself failed"


class LabError(Exception):
    """status is the exit status of the command: 1 failed, 2 usage, BROKEN, 125 lost a host
    during `exec`."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.status = status


class UsageError(LabError):
    """The command line was wrong."""

    def __init__(self, text):
        super().__init__(text, 2)
