"""What the errors of this project have in common."""


class TfsnapError(Exception):
    """Base of what a user can mend: programs print the message, one line, and exit."""
