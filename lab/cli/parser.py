"""Command-line grammar with one-line errors that suggest the closest flag."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from lab.errors import did_you_mean


class Parser(argparse.ArgumentParser):
    """An argument parser that accepts no abbreviated flags and reports an error in one line."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "allow_abbrev": False})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments; exits with an error for unknown ones."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"there is no argument {unknown[0]!r} here.{self._suggestion(unknown[0])}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one line on standard error."""
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"error: {message}{end} `{self.prog} --help` lists the arguments.\n")

    def _suggestion(self, argument: str) -> str:
        flag = argument.partition("=")[0]
        flags = [option for action in self._actions if action.help != argparse.SUPPRESS for option in action.option_strings]
        positive = flag.replace("--no-", "--", 1)
        if flag != positive and positive in flags:
            return f" Did you mean '{positive} false'?"
        return did_you_mean(flag, flags) if flag.startswith("-") else ""
